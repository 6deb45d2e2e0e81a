package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/codes"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/plugins/sdk/handshake"
)

func (a *app) mapCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "map [DRIVE]",
		Short: "Write the map file of a mounted drive, or of all",
		Long: `Write the map file cpqrsys.rso in the root of a drive ("E:"), or of all drives
that are mounted on this server. It names the letter that the volume has on its
primary server, so that the other server gives it the same one. The agent writes
it by itself when it mounts a volume on its primary.`,
		Args: maxArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(cl *control.Client) error {
				lines, err := cl.Map(c.Context(), strings.Join(args, ""))
				for _, l := range lines {
					if _, err := fmt.Fprintln(c.OutOrStdout(), screen.Clean(l)); err != nil {
						return err
					}
				}
				return err
			})
		},
	}
}

func (a *app) clearCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clear GROUP",
		Short: "Let a blocked or faulted group try again",
		Args:  exactArgs(1),

		ValidArgsFunction: a.completeGroups,
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(cl *control.Client) error {
				text, err := cl.Clear(c.Context(), args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
				return err
			})
		},
	}
}

func (a *app) shutdownCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "shutdown",
		Short: "End this server's part in an orderly way; nothing moves",
		Long: `Stop the applications of this server's groups, unmount their drives, say goodbye
to the partner, and end the agent. The storage stays with this server and
nothing moves, unless the pair's on_shutdown says "switchover".`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.with(c.Context(), func(cl *control.Client) error {
				return cl.Shutdown(c.Context(), reason, func(text string) {
					_, _ = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
				})
			})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "`text` for the journal and the partner")
	return c
}

func explainCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:               "explain CODE",
		Short:             "Tell what a message code means and what to do",
		Example:           "  orscore explain ORS-1042\n  orscore explain 1042",
		Args:              exactArgs(1),
		ValidArgsFunction: completeCodes,
		RunE: func(c *cobra.Command, args []string) error {
			page, ok := codes.Lookup(args[0])
			if !ok {
				return usage("there is no code %q", args[0])
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]string{
					"code": page.Code, "summary": page.Summary, "text": page.Text, "next": page.Next,
				})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s: %s\n\n%s\n\nNext: %s.\n", page.Code, page.Summary,
				strings.Join(screen.Fold(page.Text, 80), "\n"), strings.Join(screen.Fold(page.Next, 74), "\n      "))
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: code, summary, text, next")
	return c
}

func completeCodes(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var all []string
	for _, p := range codes.All() {
		all = append(all, p.Code+"\t"+p.Summary)
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func versionCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program and of the protocols it speaks",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			oldest, newest := core.InterconnectVersions()
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{
					"version": version, "commit": builtFrom(), "go": runtime.Version(),
					"os": runtime.GOOS, "arch": runtime.GOARCH,
					"protocols": map[string]any{
						"control": control.Protocol, "plugin": handshake.ProtocolVersion, "interconnect": []int{oldest, newest},
					},
				})
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "orscore %s, commit %s, %s %s/%s; control protocol %d, plugin protocol %d, "+
				"interconnect protocol %d to %d\n", version, builtFrom(), runtime.Version(), runtime.GOOS, runtime.GOARCH,
				control.Protocol, handshake.ProtocolVersion, oldest, newest)
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: version, commit, go, os, arch, protocols")
	return c
}

// builtFrom is the commit that the build was given, else the one that Go has noted.
func builtFrom() string {
	if commit != "" {
		return commit
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print the completion script of a shell: bash, zsh, fish or powershell",
		Example:   "  orscore completion bash > /etc/bash_completion.d/orscore",
		Args:      exactArgs(1),
		ValidArgs: shells,
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), c.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usage("shell %q is not known, wanted %s", args[0], strings.Join(shells, ", "))
		},
	}
}

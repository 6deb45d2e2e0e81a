package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/control"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/plugindoc"
	"github.com/orscore/ors/plugins/sdk/handshake"
	"github.com/orscore/ors/plugins/sdk/scaffold"
)

const pluginDirHelp = "`folder` with the plugins (default: in the configuration's agent block)"

func (a *app) pluginListCommand() *cobra.Command {
	var dir string
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the plugins that are installed, and what uses them",
		Long: `List the programs of the plugin folder: kind, version, version of the plugin
protocol, SHA-256, whether the configuration pins it, whether it is the one that
serves its kind, and the applications that use it. A program that is not known
yet is run to ask what it is; one that others could replace is not. No agent is
needed.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := core.InstalledPlugins(c.Context(), a.options(c.ErrOrStderr()), dir)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), map[string]any{"plugins": all})
			}
			return printInstalled(c.OutOrStdout(), all)
		},
	}
	c.Flags().StringVar(&dir, "plugin-dir", "", pluginDirHelp)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: plugins[] (kind, version, protocol, sha256, pinned, …)")
	return c
}

// options are those of a command that asks no agent.
func (a *app) options(logs io.Writer) core.Options {
	return core.Options{ConfigPath: a.config, Server: a.server, Out: logs, LogLevel: "error"}
}

func printInstalled(w io.Writer, all []core.InstalledPlugin) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "no plugin is installed")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "KIND\tVERSION\tPROTOCOL\tSHA-256\tPINNED\tSERVES\tUSED BY")
	yes := map[bool]string{true: "yes", false: "no"}
	for _, p := range all {
		protocol, uses := "?", "nothing"
		if p.Protocol > 0 {
			protocol = fmt.Sprint(p.Protocol)
		}
		if len(p.Uses) > 0 {
			uses = strings.Join(p.Uses, ", ")
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%.12s\t%s\t%s\t%s\n", screen.Clean(p.Kind), screen.Clean(cmp.Or(p.Version, "?")),
			protocol, cmp.Or(p.SHA256, "?"), yes[p.Pinned], yes[p.Serves], screen.Clean(uses))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, p := range all {
		if p.Problem != "" {
			if _, err := fmt.Fprintf(w, "%s: %s\n", screen.Clean(p.Path), screen.Clean(p.Problem)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *app) pluginDocsCommand() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use:   "docs KIND",
		Short: "Print the reference page of a plugin, from what it says of itself",
		Args:  exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wantsKind(args[0]); err != nil {
				return err
			}
			info, schema, err := core.DescribePlugin(c.Context(), a.options(c.ErrOrStderr()), dir, args[0])
			if err != nil {
				return err
			}
			_, err = io.WriteString(c.OutOrStdout(), plugindoc.Markdown(info, schema))
			return err
		},
	}
	c.Flags().StringVar(&dir, "plugin-dir", "", pluginDirHelp)
	return c
}

// wantsKind refuses what is no kind, and says which one is probably meant.
func wantsKind(text string) error {
	if text == "" {
		return usage("the kind is empty; `orscore plugin list` shows what there is")
	}
	if name := filepath.Base(text); name != text {
		kind, _, ok := handshake.SplitProgram(strings.TrimSuffix(name, ".exe"))
		if !ok {
			kind = "KIND"
		}
		return usage("%q is a path, and a kind is wanted: `orscore plugin docs %s --plugin-dir %s`", text, kind,
			filepath.Dir(text))
	}
	if kind, version, _ := handshake.SplitProgram(handshake.ProgramPrefix + text); version != "" {
		return usage("%q is a kind with a version: `orscore plugin docs %s` describes the version that serves", text, kind)
	}
	return nil
}

func (a *app) pluginUpgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade KIND",
		Short: "Let the newest program of a plugin that fits serve; applications go on",
		Long: `Let the newest program in the plugin folder that fits the configuration take the
place of the one that serves a kind. It is started beside that one, must accept
the configuration of all applications of its kind, and finds what runs. When
anything fails, the old one goes on.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.with(c.Context(), func(cl *control.Client) error {
				text, err := cl.UpgradePlugin(c.Context(), args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(c.OutOrStdout(), screen.Clean(text))
				return err
			})
		},
	}
}

const unpublished = "v0.0.0"

// noSource says why a folder does not hold the source of ORS; empty: it does.
func noSource(folder string) string {
	const module = "github.com/orscore/ors"
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return err.Error()
	}
	if words := strings.Fields(string(text)); len(words) < 2 || words[0] != "module" || words[1] != module {
		return "its go.mod is not that of " + module
	}
	return ""
}

func pluginNewCommand() *cobra.Command {
	p := scaffold.Plugin{Go: strings.TrimPrefix(runtime.Version(), "go"), Require: unpublished}
	c := &cobra.Command{
		Use:   "new NAME",
		Short: "Write the first version of a plugin in Go, which builds and keeps the contract",
		Long: `Write a plugin of the kind NAME into a new folder ors-plugin-NAME: a Go module of
its own that protects a program, and a Makefile that builds it and puts it to the
test with orscore plugin check. --sdk names a folder with the source of ORS, to
build against that instead of a published version.`,
		Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p.Name = args[0]
			if slices.Contains([]string{"domino", "generic", "ipset"}, p.Name) {
				return usage("%s is a plugin of ORS itself: give yours another name", p.Name)
			}
			if v := core.Version; strings.HasPrefix(v, "v") {
				p.Require = v
			}
			if p.SDK != "" {
				path, err := filepath.Abs(p.SDK)
				if err != nil {
					return err
				}
				p.SDK = path
				if why := noSource(path); why != "" {
					return usage("--sdk %s: %s; it is the folder with the source of ORS", path, why)
				}
			} else if p.Require == unpublished {
				return usage("this orscore was built from source, and its version is not published: " +
					"name the folder with the source by --sdk, as in `orscore plugin new NAME --sdk /usr/src/ors`")
			}
			files, err := p.Write("ors-plugin-" + p.Name)
			if err != nil {
				return fmt.Errorf("ORS-7055: %w", err)
			}
			for _, f := range files {
				if _, err := fmt.Fprintln(c.OutOrStdout(), f); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "next: cd ors-plugin-%s && go mod tidy && make check\n", p.Name)
			return err
		},
	}
	c.Flags().StringVar(&p.SDK, "sdk", "", "`folder` with the source of ORS")
	return c
}

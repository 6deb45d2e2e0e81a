package main

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/orscore/ors/core"
	"github.com/orscore/ors/core/control/screen"
	"github.com/orscore/ors/core/netcheck"
)

func (a *app) networkCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "network",
		Short: "Look at this server's own network",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.networkTestCommand())
	return c
}

func (a *app) networkTestCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "test",
		Short: "Ask the targets of the network check whether they answer",
		Long: `Ask each target of the configuration's network_check, as the agent does: while
none of them answers, a server takes itself for the isolated one and takes
nothing over. It needs no agent. Hosts are asked by ARP only as root.

Exit code 0 when a target answers, 1 when none does.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			results, good, err := core.TestNetwork(c.Context(), core.Options{ConfigPath: a.config, Server: a.server})
			if err != nil {
				return err
			}
			if len(results) == 0 {
				return errors.New("ORS-7020: the configuration names no targets of a network check")
			}
			sentence, exit := netcheck.Successful, error(nil)
			if !good {
				sentence, exit = netcheck.Failed, &exitError{code: exitFailed}
			}
			if asJSON {
				return errors.Join(printJSON(c.OutOrStdout(), networkJSON(results, good, sentence)), exit)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, r := range results {
				answer := "no"
				if r.Answers {
					answer = "yes"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", r.Target, answer, screen.Clean(r.Detail))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(c.OutOrStdout(), sentence); err != nil {
				return err
			}
			return exit
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: successful, sentence, targets")
	return c
}

func networkJSON(results []netcheck.Result, good bool, sentence string) any {
	type target struct {
		Target  string  `json:"target"`
		Answers bool    `json:"answers"`
		Detail  string  `json:"detail"`
		TookMS  float64 `json:"took_ms"`
	}
	out := struct {
		Successful bool     `json:"successful"`
		Sentence   string   `json:"sentence"`
		Targets    []target `json:"targets"`
	}{Successful: good, Sentence: sentence}
	for _, r := range results {
		out.Targets = append(out.Targets, target{r.Target.String(), r.Answers, r.Detail,
			float64(r.Took.Microseconds()) / 1000})
	}
	return out
}

//go:build linux

package scenario

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orscore/ors/lab/pair"
)

// args are the words that stand where a form has a word in capitals; REST has all words to the end of the line.
type args struct {
	word map[string]string
	rest []string
}

// verb is a kind of step: its form in words, what it does, and whether it is a fault (or a repair) from which a
// phase's times count.
type verb struct {
	form  string
	fault bool
	do    func(ctx context.Context, r *Runner, a args) error
}

// condition is something that can be waited for and expected. It returns nil when it holds, else what is the case
// instead.
type condition struct {
	form  string
	check func(ctx context.Context, r *Runner, a args) error
	final bool // asking it again does not change it: an answer that is not nil ends a wait
}

const within = "within"

// ParseStep reads a step. wait, expect and hold take a condition; all others are verbs.
func (s *Scenario) ParseStep(words []string) (Step, error) {
	st := Step{Text: strings.Join(words, " "), wait: defaultWait}
	if len(words) == 0 {
		return st, errors.New("an empty step")
	}
	var err error
	switch words[0] {
	case "wait":
		words, st.wait, err = takeWithin(words)
		if err == nil {
			err = s.condition(&st, words[1:])
		}
	case "expect":
		err = s.condition(&st, words[1:])
	case "hold":
		if len(words) < 2 {
			return st, errors.New("right would be: hold DURATION [CONDITION]")
		}
		if st.wait, err = time.ParseDuration(words[1]); err == nil && len(words) > 2 {
			err = s.condition(&st, words[2:])
		}
	default:
		return st, s.action(&st, words)
	}
	if err != nil {
		return st, err
	}
	st.verb = &verb{form: words[0], do: map[string]func(Step) func(context.Context, *Runner, args) error{
		"wait": waitFor, "expect": expect, "hold": hold,
	}[words[0]](st)}
	return st, nil
}

// takeWithin takes "within DURATION" off the end.
func takeWithin(words []string) ([]string, time.Duration, error) {
	n := len(words)
	if n < 2 || words[n-2] != within {
		return words, defaultWait, nil
	}
	d, err := time.ParseDuration(words[n-1])
	return words[:n-2], d, err
}

func (s *Scenario) condition(st *Step, words []string) error {
	var forms []string
	for i := range conditions {
		c := &conditions[i]
		a, ok := match(c.form, words)
		if ok {
			st.cond, st.with = c, a
			return s.names(a)
		}
		if len(words) > 0 && strings.Fields(c.form)[0] == words[0] {
			forms = append(forms, c.form)
		}
	}
	return notKnown("condition", words, forms, conditionForms())
}

func (s *Scenario) action(st *Step, words []string) error {
	var forms []string
	for i := range verbs {
		v := &verbs[i]
		a, ok := match(v.form, words)
		if ok {
			st.verb, st.args = v, a
			return s.names(a)
		}
		if strings.Fields(v.form)[0] == words[0] {
			forms = append(forms, v.form)
		}
	}
	return notKnown("step", words, forms, verbForms())
}

func notKnown(what string, words, near, all []string) error {
	if len(near) == 0 {
		near = all
	}
	return fmt.Errorf("%s %q is not known; right would be one of: %s",
		what, strings.Join(words, " "), strings.Join(near, "; "))
}

func conditionForms() []string {
	var all []string
	for _, c := range conditions {
		all = append(all, c.form)
	}
	return all
}

func verbForms() []string {
	all := []string{"wait CONDITION [within DURATION]", "expect CONDITION", "hold DURATION [CONDITION]"}
	for _, v := range verbs {
		all = append(all, v.form)
	}
	return all
}

// match compares words with a form.
func match(form string, words []string) (args, bool) {
	a := args{word: map[string]string{}}
	want := strings.Fields(form)
	for i, w := range want {
		if w == "REST" {
			a.rest = words[min(i, len(words)):]
			return a, len(a.rest) > 0
		}
		if i >= len(words) {
			return a, false
		}
		if w == strings.ToUpper(w) {
			a.word[w] = words[i]
		} else if w != words[i] {
			return a, false
		}
	}
	return a, len(words) == len(want)
}

// names checks words whose kind the form tells.
func (s *Scenario) names(a args) error {
	one, other := s.Setup.Servers[0].Name, s.Setup.Servers[1].Name
	for kind, word := range a.word {
		var err error
		switch kind {
		case "SERVER":
			if !s.isServer(word) {
				err = fmt.Errorf("%q is no server; the servers are %s and %s", word, one, other)
			}
		case "HOST":
			if !s.isServer(word) && word != pair.ClientHost {
				err = fmt.Errorf("%q is no host; the hosts are %s, %s and client", word, one, other)
			}
		case "WORKLOAD":
			if _, ok := s.workload(word); !ok {
				err = fmt.Errorf("%q is no workload of this scenario", word)
			}
		case "NETWORK":
			if word != pair.ClientNetwork && word != pair.Interconnect {
				err = fmt.Errorf("%q is no network; they are client and interconnect", word)
			}
		case "UNIT":
			if !s.hasUnit(word) {
				err = fmt.Errorf("%q is no unit of this scenario", word)
			}
		case "ACTION":
			if !slices.Contains(actions, word) {
				err = fmt.Errorf("%q is nothing that a fault point does; known are %s", word, strings.Join(actions, ", "))
			}
		case "DURATION":
			_, err = time.ParseDuration(word)
		case "NUMBER":
			_, err = strconv.Atoi(word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Scenario) hasUnit(name string) bool {
	for _, u := range s.Setup.Units {
		if u.Name == name {
			return true
		}
	}
	return false
}

// number and duration read words that names has accepted.
func (a args) number() int {
	n, _ := strconv.Atoi(a.word["NUMBER"])
	return n
}

func (a args) duration() time.Duration {
	d, _ := time.ParseDuration(a.word["DURATION"])
	return d
}

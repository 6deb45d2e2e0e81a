package node

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/orscore/ors/core/config"
)

// worker is one with applications "name" or "name<-before,before".
func worker(apps ...string) *groupWorker {
	w := &groupWorker{}
	for _, text := range apps {
		name, after, _ := strings.Cut(text, "<-")
		c := &config.Application{Name: name}
		if after != "" {
			c.After = strings.Split(after, ",")
		}
		w.apps = append(w.apps, &app{w: w, cfg: c})
	}
	return w
}

// TestOrder: an application is started when those that it comes after are up, beside all that it does not depend on, and
// stopped the other way round; what depends on one that failed is left alone, and the rest is not.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		apps    []string
		reverse bool
		fails   string
		before  [][2]string // the first has ended before the second begins
		beside  [2]string   // neither waits for the other
		not     []string    // are not called
		errs    []string
	}{
		"chain": {apps: []string{"c<-b", "b<-a", "a"}, before: [][2]string{{"a", "b"}, {"b", "c"}}},
		"chain, stopped": {apps: []string{"a", "b<-a", "c<-b"}, reverse: true,
			before: [][2]string{{"c", "b"}, {"b", "a"}}},
		"diamond": {apps: []string{"d<-b,c", "b<-a", "c<-a", "a"}, beside: [2]string{"b", "c"},
			before: [][2]string{{"a", "b"}, {"a", "c"}, {"b", "d"}, {"c", "d"}}},
		"diamond, stopped": {apps: []string{"a", "b<-a", "c<-a", "d<-b,c"}, reverse: true, beside: [2]string{"b", "c"},
			before: [][2]string{{"d", "b"}, {"d", "c"}, {"b", "a"}, {"c", "a"}}},
		"apart": {apps: []string{"a", "b"}, beside: [2]string{"a", "b"}},
		"failed": {apps: []string{"a", "b<-a", "c<-b", "d"}, fails: "a", not: []string{"b", "c"},
			errs: []string{"application a: broken", "application b waits for a", "application c waits for b"}},
		"failed, stopped": {apps: []string{"a", "b<-a", "c"}, reverse: true, fails: "b", not: []string{"a"},
			errs: []string{"application b: broken", "application a waits for b"}},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var log []string
			note := func(what string) {
				mu.Lock()
				defer mu.Unlock()
				log = append(log, what)
			}
			meet := make(chan struct{})
			err := worker(c.apps...).inOrder(c.reverse, func(p *app) error {
				note("begin " + p.cfg.Name)
				defer note("end " + p.cfg.Name)
				switch p.cfg.Name { // each waits for the other one to have begun
				case c.beside[0]:
					meet <- struct{}{}
				case c.beside[1]:
					<-meet
				case c.fails:
					return errors.New("broken")
				}
				return nil
			})
			for _, b := range c.before {
				first, second := slices.Index(log, "end "+b[0]), slices.Index(log, "begin "+b[1])
				if first < 0 || second < first {
					t.Errorf("%s does not wait for %s: %q", b[1], b[0], log)
				}
			}
			for _, n := range c.not {
				if slices.Contains(log, "begin "+n) {
					t.Errorf("%s was called: %q", n, log)
				}
			}
			if want := 2 * (len(c.apps) - len(c.not)); len(log) != want {
				t.Errorf("%q, want %d steps", log, want)
			}
			if (err != nil) != (len(c.errs) > 0) {
				t.Fatal(err)
			}
			for _, want := range c.errs {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
		})
	}
}

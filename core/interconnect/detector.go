package interconnect

import (
	"slices"
	"time"
)

// Detector knows when each link was last heard, and says which of them are silent. It is pure: time is only what its
// methods are given. It does not say what silence means.
type Detector struct {
	timeout time.Duration
	links   []detected
}

type detected struct {
	name  string
	ever  bool
	heard bool      // since the last Forget
	base  time.Time // silence is counted from here: the last beat, or a later Forget
}

// View is what a Detector sees at one moment.
type View struct {
	Links     []LinkView // in the order given to NewDetector
	AllSilent bool       // no link was heard within the time-out
	EverHeard bool       // some link has been heard since the start
	// Next is the next moment at which a View differs if nothing more is heard; zero when it will not.
	Next time.Time
}

// LinkView is one link of a View.
type LinkView struct {
	Name   string
	Ever   bool          // a beat was heard on it since the start
	Heard  bool          // a beat was heard on it within the time-out and after the last Forget: proof, not patience
	Silent bool          // for the time-out, to the instant, or always
	Age    time.Duration // since the last beat or the later Forget; 0 when never heard
}

// NewDetector returns a Detector that has heard nothing on any of links, whose names are different from each other.
func NewDetector(links []string, timeout time.Duration) *Detector {
	d := &Detector{timeout: timeout}
	for _, n := range links {
		d.links = append(d.links, detected{name: n})
	}
	return d
}

// Heard notes a beat on a link. An unknown link is ignored, and time never runs backwards.
func (d *Detector) Heard(link string, at time.Time) {
	i := slices.IndexFunc(d.links, func(l detected) bool { return l.name == link })
	if i < 0 {
		return
	}
	l := &d.links[i]
	if !l.ever || at.After(l.base) {
		l.base = at
	}
	l.ever, l.heard = true, true
}

// Forget counts silence from zero again on every link that was ever heard: this server itself was late, so the
// silence until at proves nothing.
func (d *Detector) Forget(at time.Time) {
	for i := range d.links {
		l := &d.links[i]
		l.heard = false
		if l.ever && at.After(l.base) {
			l.base = at
		}
	}
}

// View says what is heard at a moment. Exactly at the last beat plus the time-out, a link is silent.
func (d *Detector) View(at time.Time) View {
	v := View{AllSilent: true, Links: make([]LinkView, 0, len(d.links))}
	for _, l := range d.links {
		lv := LinkView{Name: l.name, Ever: l.ever, Silent: true}
		if l.ever {
			v.EverHeard = true
			lv.Age = max(0, at.Sub(l.base))
			lv.Silent = lv.Age >= d.timeout
			lv.Heard = l.heard && !lv.Silent
		}
		if !lv.Silent {
			v.AllSilent = false
			if end := l.base.Add(d.timeout); v.Next.IsZero() || end.Before(v.Next) {
				v.Next = end
			}
		}
		v.Links = append(v.Links, lv)
	}
	return v
}

// Next is View's Next, for whoever needs nothing else of it.
func (d *Detector) Next(at time.Time) time.Time {
	var next time.Time
	for i := range d.links {
		l := &d.links[i]
		if end := l.base.Add(d.timeout); l.ever && at.Sub(l.base) < d.timeout && (next.IsZero() || end.Before(next)) {
			next = end
		}
	}
	return next
}

package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/orscore/ors/core/arrival"
	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

// Steps that are answers to the program itself.
const (
	Registered = "registered" // the first message that it gets
	Reported   = "reported"   // its oldest report that was not answered is on disk
)

// A program that is only allowed to look must not fill the journal, nor the status.
const (
	reportEvery  = time.Second // at most one report of a program is taken in this time
	reportText   = 1000        // bytes of a report's sentence, of a group's and of a program's name
	mostGroups   = 100         // of one registration
	registerWait = 5 * time.Second
)

// programs are those that are registered now.
type programs struct {
	mu   sync.Mutex
	list []*Program
}

func (p *programs) add(one *Program) (remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, one)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.list = slices.DeleteFunc(p.list, func(o *Program) bool { return o == one })
	}
}

func (p *programs) all() []Program {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Program, 0, len(p.list))
	for _, one := range p.list {
		out = append(out, *one)
	}
	return out
}

// Notify tells a registered program of every group that comes and leaves, out of the journal: nothing is told before it
// is on the disk, and nothing waits for a program.
func (s *service) Notify(stream controlv1.ControlService_NotifyServer) error {
	ctx, cancel := s.until(stream.Context())
	defer cancel()
	reg, err := s.register(ctx, stream)
	if err != nil {
		return toWire(err)
	}
	var sending sync.Mutex // what is told and what is answered come from two goroutines
	send := func(m *controlv1.NotifyResponse) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(m)
	}
	journal := s.backend.Journal()
	last, after, err := arrival.Last(journal)
	switch {
	case err != nil:
		return toWire(err)
	case reg.After > 0:
		after, last = min(after, reg.After), nil
	}
	remove := s.programs.add(&Program{Name: reg.Program, By: peerOf(ctx), Groups: orEmpty(reg.Groups), Since: time.Now()})
	defer remove()
	tell := func(n arrival.Notice) error {
		if len(reg.Groups) > 0 && !slices.Contains(reg.Groups, n.Group) {
			return nil
		}
		return send(noticeToWire(n))
	}
	err = send(&controlv1.NotifyResponse{Position: after, AtMs: time.Now().UnixMilli(), Step: Registered,
		Text: reg.Program + " is registered."})
	for _, n := range arrival.Here(last) {
		if err == nil {
			err = tell(n)
		}
	}
	if err != nil {
		return toWire(err)
	}
	go func() { // ends when this call does, since the stream ends with it
		defer cancel()
		s.takeReports(ctx, stream, reg.Program, send)
	}()
	err = journal.Follow(ctx, after, func(r record) error {
		n, ok := arrival.Of(r)
		if !ok || n.Step == arrival.Ran {
			return nil
		}
		return tell(n)
	})
	if ctx.Err() != nil {
		err = s.ended(ctx)
	}
	return toWire(err)
}

// register takes a program's first message. One that sends none is not waited for.
func (s *service) register(ctx context.Context, stream controlv1.ControlService_NotifyServer) (Registration, error) {
	type received struct {
		m   *controlv1.NotifyRequest
		err error
	}
	first := make(chan received, 1)
	go func() { // ends when this call does, at the latest
		m, err := stream.Recv()
		first <- received{m, err}
	}()
	refused := func(why string) error { return fmt.Errorf("ORS-7044: %w: %s", ErrRefused, why) }
	select {
	case <-ctx.Done():
		return Registration{}, s.ended(ctx)
	case <-time.After(registerWait):
		return Registration{}, refused("it has not said its name")
	case r := <-first:
		reg := r.m.GetRegister()
		switch {
		case r.err != nil:
			return Registration{}, r.err
		case reg.GetProgram() == "":
			return Registration{}, refused("the first message names no program")
		case len(reg.GetGroups()) > mostGroups:
			return Registration{}, refused(fmt.Sprintf("%d groups are more than a pair has", len(reg.GetGroups())))
		}
		known := []string{}
		for _, g := range s.backend.Status(ctx).Groups {
			known = append(known, g.Name)
		}
		out := Registration{Program: cut(reg.GetProgram()), After: reg.GetAfter()}
		for _, g := range reg.GetGroups() {
			if !slices.Contains(known, g) { // it would wait for ever
				return Registration{}, refused(fmt.Sprintf("there is no group %q; the pair has: %s", cut(g),
					strings.Join(known, ", ")))
			}
			out.Groups = append(out.Groups, g)
		}
		return out, nil
	}
}

// takeReports writes down what a program says it did, until it leaves.
func (s *service) takeReports(ctx context.Context, stream controlv1.ControlService_NotifyServer, program string,
	send func(*controlv1.NotifyResponse) error) {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) { // it has nothing more to say, and still listens
			<-ctx.Done()
			return
		}
		if err != nil {
			return
		}
		r := m.GetReport()
		if r == nil {
			continue
		}
		run := arrival.Run{Program: program, Exit: int(r.GetExitCode()), ID: cut(r.GetId()),
			Took: time.Duration(r.GetTookMs()) * time.Millisecond}
		again, err := arrival.Reported(s.backend.Journal(), run)
		if !again && err == nil {
			rec := arrival.Notice{Step: arrival.Ran, Group: cut(r.GetGroup()), At: time.Now(), Text: cut(r.GetText()),
				Run: &run}.Record()
			err = s.backend.Journal().Append(&rec)
		}
		if err != nil {
			s.log.Warn("a program's report is lost", "program", program, "error", err)
			continue
		}
		if send(&controlv1.NotifyResponse{Step: Reported, Group: r.GetGroup(), AtMs: time.Now().UnixMilli()}) != nil {
			return
		}
		select {
		case <-time.After(reportEvery):
		case <-ctx.Done():
			return
		}
	}
}

func cut(text string) string {
	if len(text) > reportText {
		text = strings.ToValidUTF8(text[:reportText], "") + "…"
	}
	return text
}

func noticeToWire(n arrival.Notice) *controlv1.NotifyResponse {
	m := &controlv1.NotifyResponse{Position: n.Pos, AtMs: n.At.UnixMilli(), Step: n.Step, Event: n.Event, Group: n.Group,
		Server: n.Server, From: n.From, Primary: n.Primary, Status: n.Status, Text: n.Text}
	for _, d := range n.Drives {
		m.Drives = append(m.Drives,
			&controlv1.NotifyDrive{Letter: d.Letter, Path: d.Path, ConfiguredLetter: d.Configured})
	}
	return m
}

func noticeFromWire(m *controlv1.NotifyResponse) arrival.Notice {
	n := arrival.Notice{Pos: m.GetPosition(), At: time.UnixMilli(m.GetAtMs()), Step: m.GetStep(), Event: m.GetEvent(),
		Group: m.GetGroup(), Server: m.GetServer(), From: m.GetFrom(), Primary: m.GetPrimary(), Status: m.GetStatus(),
		Text: m.GetText()}
	for _, d := range m.GetDrives() {
		n.Drives = append(n.Drives,
			arrival.Drive{Letter: d.GetLetter(), Path: d.GetPath(), Configured: d.GetConfiguredLetter()})
	}
	return n
}

// Registration is a program that wants to be told of groups.
type Registration struct {
	Program string
	Groups  []string // empty: all
	After   uint64   // position behind which to begin; 0: with the groups that are here
}

// Report is what a program did about a group.
type Report struct {
	ID    string // of the report; one that comes again is written down once. Empty: each is
	Group string
	Text  string // a sentence
	Exit  int    // code of a run; 0: well
	Took  time.Duration
}

// ReportFunc sends a report to the agent. That it is on disk is told by the step Reported.
type ReportFunc func(Report) error

// Notify registers a program and calls fn for each notice, the first of which has the step Registered and the position
// from which on is followed, until ctx ends, fn returns an error, or the agent ends. Reports may be sent from any
// goroutine while Notify runs.
func (c *Client) Notify(ctx context.Context, r Registration, fn func(arrival.Notice, ReportFunc) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Notify(ctx)
	if err != nil {
		return fromWire(ctx, c.socket, err)
	}
	register := &controlv1.Register{Program: r.Program, Groups: r.Groups, After: r.After}
	// an error of it is told by Recv, with the reason
	_ = stream.Send(&controlv1.NotifyRequest{Message: &controlv1.NotifyRequest_Register{Register: register}})
	var sending sync.Mutex
	report := func(r Report) error {
		sending.Lock()
		defer sending.Unlock()
		return fromWire(ctx, c.socket, stream.Send(&controlv1.NotifyRequest{Message: &controlv1.NotifyRequest_Report{
			Report: &controlv1.Report{Id: r.ID, Group: r.Group, Text: r.Text, ExitCode: int32(r.Exit),
				TookMs: r.Took.Milliseconds()}}}))
	}
	return each(ctx, c, stream, nil, func(m *controlv1.NotifyResponse) error { return fn(noticeFromWire(m), report) })
}

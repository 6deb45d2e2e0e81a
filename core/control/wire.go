package control

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/core/store"
)

type record = store.Record

var errAgentEnds = errors.New("ORS-7004: the recovery agent ends")

// toWire turns an error of the agent into one for its client; the kinds that a client branches on become gRPC codes.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, ErrNotPermitted):
		code = codes.PermissionDenied
	case errors.Is(err, ErrRefused):
		code = codes.FailedPrecondition
	case errors.Is(err, errAgentEnds):
		code = codes.Aborted
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	}
	return status.Error(code, err.Error())
}

// agentError is an error that the agent has put into words; kind is the sentinel that it stands for.
type agentError struct {
	text string
	kind error
}

func (e *agentError) Error() string { return e.text }
func (e *agentError) Unwrap() error { return e.kind }

// fromWire is the inverse of toWire, and puts words to what can happen on the way.
func fromWire(ctx context.Context, socket string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.PermissionDenied:
		return &agentError{text: st.Message(), kind: ErrNotPermitted}
	case codes.FailedPrecondition:
		return &agentError{text: st.Message(), kind: ErrRefused}
	case codes.Unavailable:
		return fmt.Errorf("ORS-7004: %w any more at %s", ErrNoAgent, socket)
	case codes.DeadlineExceeded:
		return fmt.Errorf("ORS-7004: %w in time at %s", ErrNoAgent, socket)
	}
	return &agentError{text: st.Message()}
}

// normalize replaces nil lists by empty ones, so that readers of the JSON find a list where one belongs.
func (s *Status) normalize() {
	s.Alarms = orEmpty(s.Alarms)
	s.Servers = orEmpty(s.Servers)
	s.Links = orEmpty(s.Links)
	s.Plugins = orEmpty(s.Plugins)
	s.Programs = orEmpty(s.Programs)
	groups := make([]Group, len(s.Groups))
	for i, g := range s.Groups {
		g.Units, g.Drives, g.Applications = orEmpty(g.Units), orEmpty(g.Drives), orEmpty(g.Applications)
		groups[i] = g
	}
	s.Groups = groups
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

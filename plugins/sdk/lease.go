package sdk

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// renewals is the order of the leases of one application: a renewal that was overtaken on its way must not undo a newer
// one, and least of all one without end.
type renewals struct {
	bootID string
	newest uint64
}

func (r *renewals) admit(bootID string, sequence uint64) error {
	if bootID == r.bootID && sequence <= r.newest {
		return status.Errorf(codes.FailedPrecondition, "renewal %d comes after renewal %d: it is out of date",
			sequence, r.newest)
	}
	r.bootID, r.newest = bootID, sequence
	return nil
}

// noteLease admits a renewal and makes it the application's lease.
func (s *slot) noteLease(a *pluginv1.Application, c *pluginv1.Caller, sequence uint64, l Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.epochs.load(a.GetWorkDir()); err != nil {
		return status.Error(codes.Unavailable, err.Error())
	}
	if err := s.epochs.overtaken(c.GetEpoch()); err != nil {
		return err
	}
	if l.Ends() && l.Left() <= 0 {
		return status.Errorf(codes.FailedPrecondition, "the renewal is late: its lease ended %v ago", -l.Left())
	}
	if err := s.renewals.admit(c.GetBootId(), sequence); err != nil {
		return err
	}
	s.lease = l
	return nil
}

func (s *slot) currentLease() Lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// Renew hands the newest lease to the application, in turn with the operations that change it. A renewal does not wait
// for an operation that is under way: a start looks at the lease itself, a stop needs none, and the next renewal comes
// soon. It does wait for another renewal, whose caller may be gone: it may be the last word of a core that ends.
func (s *server) Renew(ctx context.Context, r *pluginv1.RenewRequest) (*pluginv1.RenewResponse, error) {
	if !s.plugin.Leases {
		return nil, status.Error(codes.Unimplemented, "this plugin's applications have no lease")
	}
	ctx, cancel := bounded(ctx, shortCall)
	defer cancel()
	sl := s.slot(r.GetApplication())
	lease := Lease{until: time.Duration(r.GetUntilNs())}
	if err := sl.noteLease(r.GetApplication(), r.GetCaller(), r.GetSequence(), lease); err != nil {
		return nil, err
	}
	in := s.instance(r.GetApplication(), r.GetCaller())
	in.lease, in.background = sl.currentLease, sl.resumeJob
	app, err := s.application(in)
	if err != nil {
		return nil, err
	}
	leaser, ok := app.(Leaser)
	if !ok {
		return nil, status.Errorf(codes.Unimplemented, "applications of the kind %s have no lease", s.plugin.Kind)
	}
	if _, err := take(ctx, sl.renewal, true); err != nil {
		return nil, err
	}
	defer give(sl.renewal)
	if taken, err := take(ctx, sl.turn, !lease.Ends()); !taken {
		return &pluginv1.RenewResponse{}, err
	}
	defer give(sl.turn)
	if err := sl.overtaken(r.GetCaller().GetEpoch()); err != nil {
		return nil, err
	}
	if now := sl.currentLease(); now != lease {
		return &pluginv1.RenewResponse{}, nil // a newer one came while this one waited
	}
	detail, err := guard(func() (any, error) { return leaser.Renew(ctx, handle(r.GetHandle()), lease) })
	if err != nil {
		return nil, asStatus(err)
	}
	return &pluginv1.RenewResponse{Detail: detail.(string)}, nil
}

// take takes a turn when it is free, or, with wait, when it becomes so.
func take(ctx context.Context, turn chan struct{}, wait bool) (bool, error) {
	select {
	case <-turn:
		return true, nil
	default:
	}
	if !wait {
		return false, nil
	}
	select {
	case <-turn:
		return true, nil
	case <-ctx.Done():
		return false, status.FromContextError(ctx.Err()).Err()
	}
}

// overtaken refuses what has waited for its turn while a newer epoch was seen.
func (s *slot) overtaken(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs.overtaken(epoch)
}

func give(turn chan struct{}) { turn <- struct{}{} }

package sdk

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// verb orders the changing operations: a later one cuts short an earlier one that is under way.
type verb int

const (
	verbStart verb = iota
	verbStop
	verbKill
)

func (v verb) String() string { return [...]string{"start", "stop", "kill"}[v] }

// lingerGone is how long an operation goes on after its last caller left. A caller that leaves because its process
// died takes the connection, and soon this process, with it: the operation must not be undone then, since
// applications outlive the core.
const lingerGone = 150 * time.Millisecond

// backgroundEnd bounds the wait for a background job that was told to end.
const backgroundEnd = 2 * time.Second

// operation is one change of one application, with all the callers who wait for it.
type operation struct {
	verb   verb
	id     string
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{} // closed when result and err are set

	mu      sync.Mutex
	waiters int
	steps   []step
	changed chan struct{} // closed and replaced with each step
	result  any
	err     error
}

type step struct{ name, text string }

// slot is one application as this process knows it.
type slot struct {
	turn    chan struct{} // holds one token: whoever has it may change the application
	renewal chan struct{} // the same: who has it renews the lease; taken before turn

	mu       sync.Mutex
	epochs   epochs
	live     []*operation
	finished [verbKill + 1]*operation // the last one of each verb that was not cut short
	lease    Lease
	renewals renewals

	jobCancel context.CancelFunc // background job; guarded by holding turn
	jobDone   chan struct{}
}

func newSlot() *slot {
	s := &slot{turn: make(chan struct{}, 1), renewal: make(chan struct{}, 1)}
	give(s.turn)
	give(s.renewal)
	return s
}

// begin returns the operation for a call: the one under way or finished with the same id, else a new one. The caller
// must follow it.
func (s *slot) begin(v verb, id string, act func(context.Context, *operation) (any, error)) *operation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != "" {
		for _, op := range s.live {
			if op.verb == v && op.id == id && op.join() {
				return op
			}
		}
		if op := s.finished[v]; op != nil && op.id == id {
			op.join()
			return op
		}
	}
	for _, op := range s.live {
		if op.verb < v {
			op.cancel()
		}
	}
	op := &operation{verb: v, id: id, done: make(chan struct{}), changed: make(chan struct{}), waiters: 1}
	op.ctx, op.cancel = context.WithCancel(context.Background())
	s.live = append(s.live, op)
	go s.run(op, act)
	return op
}

func (s *slot) run(op *operation, act func(context.Context, *operation) (any, error)) {
	defer op.cancel()
	var result any
	var err error
	select {
	case <-op.ctx.Done():
		err = status.Errorf(codes.Aborted, "%s was given up before it began: another operation was under way", op.verb)
	case <-s.turn:
		s.endJob()
		result, err = guard(func() (any, error) { return act(op.ctx, op) })
		give(s.turn)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.live {
		if o == op {
			s.live = append(s.live[:i], s.live[i+1:]...)
			break
		}
	}
	if op.ctx.Err() == nil {
		s.finished[op.verb] = op
	}
	op.mu.Lock()
	op.result, op.err = result, err
	op.mu.Unlock()
	close(op.done)
}

// starting says whether a start is under way.
func (s *slot) starting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.live, func(op *operation) bool { return op.verb == verbStart })
}

// startJob is called from within an operation, which holds the turn.
func (s *slot) startJob(job func(context.Context)) {
	s.endJob()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.jobCancel, s.jobDone = cancel, done
	go func() {
		defer close(done)
		_, _ = guard(func() (any, error) { job(ctx); return nil, nil })
	}()
}

// resumeJob starts the job where there has been none since the last operation, or since the plugin began. It is called
// by who holds the turn.
func (s *slot) resumeJob(job func(context.Context)) {
	if s.jobCancel == nil {
		s.startJob(job)
	}
}

func (s *slot) endJob() {
	if s.jobCancel == nil {
		return
	}
	s.jobCancel()
	select {
	case <-s.jobDone:
	case <-time.After(backgroundEnd):
	}
	s.jobCancel, s.jobDone = nil, nil
}

// guard turns a panic of a vendor's code into an error, because other applications live in the same process.
func guard(f func() (any, error)) (result any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = status.Errorf(codes.Internal, "the plugin panicked: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// join adds a caller; false when the operation has been cut short.
func (op *operation) join() bool {
	op.mu.Lock()
	defer op.mu.Unlock()
	select {
	case <-op.done:
	case <-op.ctx.Done():
		return false
	default:
	}
	op.waiters++
	return true
}

func (op *operation) leave() {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.waiters--; op.waiters == 0 {
		op.cancel()
	}
}

func (op *operation) progress(name, text string) {
	op.mu.Lock()
	defer op.mu.Unlock()
	op.steps = append(op.steps, step{name, text})
	close(op.changed)
	op.changed = make(chan struct{})
}

// follow waits for the operation, telling each step, those before the caller joined included.
func (op *operation) follow(ctx context.Context, gone <-chan struct{}, tell func(step) error) (any, error) {
	told := 0
	for {
		op.mu.Lock()
		fresh, changed := op.steps[told:], op.changed
		op.mu.Unlock()
		for _, st := range fresh {
			told++
			if err := tell(st); err != nil {
				op.abandon(gone)
				return nil, fmt.Errorf("tell step %q: %w", st.name, err)
			}
		}
		select {
		case <-changed:
		case <-op.done:
			op.mu.Lock()
			result, err, all := op.result, op.err, told == len(op.steps)
			op.mu.Unlock()
			if all {
				op.leave()
				return result, err
			}
		case <-ctx.Done():
			op.abandon(gone)
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// abandon leaves an operation unless the core is gone.
func (op *operation) abandon(gone <-chan struct{}) {
	select {
	case <-gone:
		return
	case <-op.done:
	case <-time.After(lingerGone):
	}
	select {
	case <-gone:
	default:
		op.leave()
	}
}

package control

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/store"
)

// Errors that a caller branches on. They survive the way from the agent to its client.
var (
	// ErrRefused: the agent would not do what was asked; nothing was changed. A Backend wraps it.
	ErrRefused = errors.New("refused")
	// ErrNotPermitted: the user may not ask this.
	ErrNotPermitted = errors.New("not permitted")
	// ErrNoAgent: no agent answers.
	ErrNoAgent = errors.New("no recovery agent answers")
)

// MoveRequest asks for a planned move.
type MoveRequest struct {
	Groups   []string // empty: all that the verb can move
	To       string   // server; empty: the primary for a failback, else the partner of the owner
	Failback bool     // only groups that are away from their primary
	Force    bool     // also in maintenance
	Reason   string   // for the journal
	By       string   // who asked, as the kernel says; set by Serve
}

// MoveProgress is one step of one group's move.
type MoveProgress struct {
	At       time.Duration // since the request
	Group    string
	Step     string // "asked", "ready", "stopping", …, "done", "refused", "returned", "failed"
	Text     string
	Finished bool   // last one for this group
	Moved    bool   // with Finished: the group is where it was asked to be
	Code     string // ORS-nnnn of a refusal or failure
}

// ModeRequest switches the mode of the pair. What is nil stays as it is.
type ModeRequest struct {
	Disabled    *bool          // switchover
	Maintenance *time.Duration // for so long; 0: it ends
	Reason      string         // for the journal
	By          string         // who asked, as the kernel says; set by Serve
}

// RestartRequest asks for the agent's end, and for another one in its place.
type RestartRequest struct {
	Within time.Duration // the partner is told to wait for so long
	Reason string        // for the journal
	// Program is the absolute path of the program that takes the agent's place in its process; empty: the agent ends, and
	// whatever keeps it running starts it again.
	Program string
}

// Journal is what operators read of core/store, and where a registered program's reports are written down.
type Journal interface {
	arrival.Journal
	Follow(ctx context.Context, after uint64, fn func(store.Record) error) error
	Append(*store.Record) error
}

// Backend is the agent behind the control API. Its methods are called from several goroutines.
//
// Errors go to the operator as they are, so they name an ORS code and what would be right; those that wrap ErrRefused
// say that nothing was changed. The contexts of Move, Clear, Map, Mode, Restart, UpgradePlugin and Shutdown end when
// Serve ends, not when the client leaves: what an operator has begun is finished without him.
type Backend interface {
	// Status is the pair as this agent sees it now. It never waits for the partner.
	Status(ctx context.Context) Status
	// Subscribe returns a channel that receives whenever the status may have changed; changes that nobody has taken yet
	// count as one. The caller calls cancel when it is done. Broadcast implements it.
	Subscribe() (changed <-chan struct{}, cancel func())
	// Move moves groups, telling each step, and returns when all have ended. That a group did not move is told by its
	// last step and is no error; an error says that nothing could be tried. The function is never called after the return.
	Move(ctx context.Context, r MoveRequest, step func(MoveProgress)) error
	// Map writes the map file of one drive ("E:"), or of all that are mounted here when drive is empty, and returns one
	// line about each.
	Map(ctx context.Context, drive string) ([]string, error)
	// Clear lets a group that is blocked or faulted try again, and says what it does now.
	Clear(ctx context.Context, group string) (string, error)
	// Mode switches the mode of the pair, and says how it is then.
	Mode(ctx context.Context, r ModeRequest) (string, error)
	// Restart ends the agent for a restart: applications go on, and the partner is told to wait for so long. It returns
	// when that has been said; the agent then ends by itself, or becomes the asked program.
	Restart(ctx context.Context, r RestartRequest) (string, error)
	// UpgradePlugin lets the newest program that fits serve a plugin's kind, and says what serves it now.
	UpgradePlugin(ctx context.Context, kind string) (string, error)
	// Shutdown ends this server's part in an orderly way, telling what it does, and returns when all is down; the agent
	// then ends by itself.
	Shutdown(ctx context.Context, reason string, tell func(string)) error
	// Journal is the agent's journal.
	Journal() Journal
}

// Broadcast tells any number of subscribers that something changed. Its zero value is ready for use.
type Broadcast struct {
	mu   sync.Mutex
	subs map[chan struct{}]struct{}
}

// Notify tells all subscribers. It never waits.
func (b *Broadcast) Notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.subs {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// Subscribe returns a channel that receives after each Notify; several that nobody has taken yet count as one. After
// cancel, which may be called more than once, nothing more is sent. The channel is never closed.
func (b *Broadcast) Subscribe() (changed <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil {
		b.subs = make(map[chan struct{}]struct{})
	}
	b.subs[c] = struct{}{}
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.subs, c)
	}
}

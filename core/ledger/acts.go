package ledger

import (
	"fmt"
	"time"
)

// mount is what a server has mounted, or may have, while its ledger is read.
type mount struct {
	open  bool
	epoch uint32
	pos   uint64
	known bool      // epoch is
	lost  bool      // the server has seen that the unit is no longer its own …
	seen  time.Time // … then
	seenN uint32    // … under this epoch
}

// acts follows what one server did with a unit: mounts only what it owns, and lets go of it before it gives it away.
func (x *auditor) acts(u *unitHistory, li int) {
	server := x.ledgers[li].Server
	var m mount
	foreign := uint32(0) // newest epoch under which this server has seen the unit with somebody else
	boots := u.boots[li]
	for _, e := range u.entries[li] {
		for len(boots) > 0 && boots[0].pos <= e.Pos {
			boots = boots[1:]
			x.closed(u, server, &m, nil, "its operating system was started anew")
		}
		switch e.Kind {
		case Seen, Revoked, Refused:
			if e.After.Owner != server {
				foreign = max(foreign, e.After.Epoch)
			}
			if m.open && !m.lost && e.After.Owner != server && (!m.known || e.After.Epoch > m.epoch) {
				m.lost, m.seen, m.seenN = true, e.At, e.After.Epoch
			}
		case Granted:
			if m.open && m.lost {
				x.finding("unit %s: %s took it under epoch %d (position %d) before what it had mounted under epoch %d "+
					"was cleared", u.name, server, e.After.Epoch, e.Pos, m.epoch)
			}
		case ReleaseAsked:
			if m.open {
				x.finding("unit %s: %s asked for its release (position %d) while it was mounted (position %d)", u.name, server,
					e.Pos, m.pos)
			}
		case Attach:
			x.attached(u, server, e, &m)
			if m.known && m.epoch < foreign {
				m.lost, m.seen, m.seenN = true, e.At, foreign // it was lost in the moment in which it was to be mounted
			}
		case Detached:
			x.closed(u, server, &m, e, "it was unmounted")
		case Cleared:
			x.closed(u, server, &m, e, "it was cleared")
		}
	}
	if len(boots) > 0 {
		x.closed(u, server, &m, nil, "its operating system was started anew")
	}
	x.leftOpen(u, li, &m)
}

// attached checks that a mount is within a grant.
func (x *auditor) attached(u *unitHistory, server string, e *Entry, m *mount) {
	if m.open && m.lost {
		x.finding("unit %s: %s mounted it (position %d) though it had seen it go under epoch %d, and cleared nothing",
			u.name, server, e.Pos, m.seenN)
	}
	if e.After == nil {
		x.warning("unit %s: %s mounted it, or kept it mounted, without the switch's word (position %d): the disk was its "+
			"witness", u.name, server, e.Pos)
		if !m.open {
			*m = mount{open: true, pos: e.Pos}
		}
		return
	}
	owner, known := u.ownerAt(e.After.Epoch)
	switch {
	case e.After.Owner != server:
		x.finding("unit %s: %s mounted it (position %d) under epoch %d, which was %s's", u.name, server, e.Pos,
			e.After.Epoch, ownerName(e.After.Owner))
	case !known:
		x.missing("unit %s: %s mounted it (position %d) under epoch %d, of which neither ledger has the grant", u.name,
			server, e.Pos, e.After.Epoch)
	case owner != server:
		x.finding("unit %s: %s mounted it (position %d) under epoch %d, which was %s's", u.name, server, e.Pos,
			e.After.Epoch, ownerName(owner))
	}
	*m = mount{open: true, known: true, epoch: e.After.Epoch, pos: e.Pos}
}

// closed ends a mount, and tells of one that was kept beyond the grant. e is nil when the ledger has no moment of it.
func (x *auditor) closed(u *unitHistory, server string, m *mount, e *Entry, how string) {
	if m.open {
		switch {
		case m.lost && e != nil:
			x.stale(u, server, m, fmt.Sprintf("for %s by its own clock, until %s (position %d)",
				e.At.Sub(m.seen).Round(time.Millisecond), how, e.Pos))
		case m.lost:
			x.stale(u, server, m, "until "+how)
		case m.known && e == nil:
			if h, ok := u.lostAfter(server, m.epoch); ok && h.Owner != "" {
				x.stale(u, server, m, "until "+how+" at the latest")
			}
		}
	}
	*m = mount{}
}

// leftOpen tells of a mount that its ledger does not see the end of.
func (x *auditor) leftOpen(u *unitHistory, li int, m *mount) {
	server := x.ledgers[li].Server
	if !m.open {
		return
	}
	end := "its ledger ends before its end"
	if m.lost {
		x.stale(u, server, m, end)
	} else if h, ok := u.lostAfter(server, m.epoch); ok && m.known && h.Owner != "" {
		x.stale(u, server, m, end)
	}
}

func (x *auditor) stale(u *unitHistory, server string, m *mount, how string) {
	to := "the unit was no longer its own"
	if h, ok := u.lostAfter(server, m.epoch); ok && h.Owner != "" {
		to = fmt.Sprintf("epoch %d had gone to %s", h.From, h.Owner)
	}
	x.warning("unit %s: stale mount on %s, writes refused by the switch: %s, mounted under epoch %d (position %d); %s",
		u.name, server, to, m.epoch, m.pos, how)
}

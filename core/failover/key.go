package failover

import "fmt"

// Server names one of the two servers of a pair by its place in the configuration: 1 or 2. Nobody is 0.
type Server uint8

// The owners that a switch may name.
const (
	Nobody Server = 0
	First  Server = 1
	Second Server = 2
)

// Other returns the partner of s; Nobody has none.
func (s Server) Other() Server {
	switch s {
	case First:
		return Second
	case Second:
		return First
	}
	return Nobody
}

func (s Server) String() string { return fmt.Sprintf("server%d", uint8(s)) }

// Key is what the switch holds for one storage unit. A switch compares and swaps it as a whole, so whoever changes
// it has read its last value. N is the unit's epoch.
type Key struct {
	Owner Server // to whom the unit is connected
	N     uint32 // epoch: grows by one with every claim, re-key and release
	Tag   uint32 // number of the last arbitration round that was won on this unit
	By    Server // who won that round; a release leaves Tag and By behind
}

func (k Key) String() string {
	return fmt.Sprintf("{owner %d epoch %d round %d by %d}", k.Owner, k.N, k.Tag, k.By)
}

// Claimed returns the key that makes s the owner without touching the round.
func (k Key) Claimed(s Server) Key { return Key{Owner: s, N: k.N + 1, Tag: k.Tag, By: k.By} }

// Released returns the key that connects the unit to nobody.
func (k Key) Released() Key { return Key{Owner: Nobody, N: k.N + 1, Tag: k.Tag, By: k.By} }

// Won returns the key by which s claims the unit as winner of the round tag.
func (k Key) Won(s Server, tag uint32) Key { return Key{Owner: s, N: k.N + 1, Tag: tag, By: s} }

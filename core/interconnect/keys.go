package interconnect

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrKeyInUse is what SetKeys answers while the partner does not know the new keys.
var ErrKeyInUse = errors.New("the partner has not shown that it knows the new key: the one in use is kept")

// pairKey is a pre-shared key that is accepted.
type pairKey struct {
	secret []byte
	print  uint32
	hello  *mac // tag of handshake frames
}

func newPairKey(secret []byte, pair string) (*pairKey, error) {
	k, err := hkdf.Key(sha256.New, secret, nil, "ORS interconnect 1 hello "+pair, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the handshake's key: %w", err)
	}
	return &pairKey{secret: bytes.Clone(secret), print: fingerprint(secret), hello: newMAC(k)}, nil
}

func newPairKeys(key, other []byte, pair string) ([]*pairKey, error) {
	secrets := [][]byte{key}
	if other != nil {
		secrets = append(secrets, other)
	}
	var keys []*pairKey
	for _, secret := range secrets {
		if len(secret) < MinKey {
			return nil, fmt.Errorf("interconnect: the key has %d bytes: at least %d would be right", len(secret), MinKey)
		}
		k, err := newPairKey(secret, pair)
		if err != nil {
			return nil, fmt.Errorf("interconnect: %w", err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func fingerprint(secret []byte) uint32 {
	sum := sha256.Sum256(append([]byte("ORS interconnect key fingerprint "), secret...))
	return binary.BigEndian.Uint32(sum[:])
}

// Fingerprint names a key to people without showing anything of it.
func Fingerprint(key []byte) string { return fmt.Sprintf("%08x", fingerprint(key)) }

// sessionKey is what a session derives from one of the keys: frames under any of them are taken.
type sessionKey struct {
	*pairKey
	id    uint16
	mac   *mac
	known bool // the partner has shown in this session that it knows the key
}

// sessionKeys derives a session's keys.
func (h *handshake) sessionKeys(s *session) ([]sessionKey, error) {
	salt := slices.Concat(s.mine[:], s.peer[:])
	if h.self == 2 {
		salt = slices.Concat(s.peer[:], s.mine[:])
	}
	info := fmt.Sprintf("ORS interconnect %d session %s", s.version, h.pair)
	var keys []sessionKey
	for _, k := range h.keys {
		b, err := hkdf.Key(sha256.New, k.secret, salt, info, sha256.Size+2)
		if err != nil {
			return nil, fmt.Errorf("derive the session's key: %w", err)
		}
		keys = append(keys, sessionKey{
			pairKey: k, mac: newMAC(b[:sha256.Size]), id: uint16(b[sha256.Size])<<8 | uint16(b[sha256.Size+1]),
		})
	}
	return keys, nil
}

// use is the key of the frames to the partner: the first that it has shown to know. A session begins with one.
func (s *session) use() *sessionKey {
	for i := range s.keys {
		if s.keys[i].known {
			return &s.keys[i]
		}
	}
	return &s.keys[0]
}

// knows notes that the partner knows a key, and says whether another one is used because of it.
func (s *session) knows(fits func(*sessionKey) bool) (changed bool) {
	before := s.use()
	for i := range s.keys {
		if k := &s.keys[i]; fits(k) {
			k.known = true
		}
	}
	return s.use() != before
}

// SetKeys has other keys accepted from now on, and the first of them used as soon as the partner has shown that it
// knows it; other may be nil. The session goes on. While the partner is heard, a key that it uses, or the only one that
// it is known to know, cannot be taken away: ErrKeyInUse, and nothing is changed.
func (e *Endpoint) SetKeys(key, other []byte, now time.Time) ([]Event, error) {
	keys, err := newPairKeys(key, other, e.o.Pair)
	if err != nil {
		return nil, err
	}
	h := e.shake
	s := h.live
	if s == nil {
		h.keys = keys
		return nil, nil
	}
	before := h.keys
	h.keys = keys
	made, err := h.sessionKeys(s)
	if err != nil {
		h.keys = before
		return nil, err
	}
	heard := false
	for _, old := range s.keys {
		for i := range made {
			if bytes.Equal(made[i].secret, old.secret) {
				made[i].known = old.known
				heard = heard || old.print == s.heardKey
			}
		}
	}
	known := slices.ContainsFunc(made, func(k sessionKey) bool { return k.known })
	if (!known || !heard) && now.Sub(s.last) < e.o.Timeout {
		h.keys = before
		return nil, ErrKeyInUse
	}
	was := s.use().print
	s.keys = made
	if s.use().print == was {
		return nil, nil
	}
	return []Event{e.keyChanged(now)}, nil
}

// keyChanged is the event that tells of another key in use. There is a session.
func (e *Endpoint) keyChanged(now time.Time) Event {
	text := fmt.Sprintf("The key %08x is used from now on.", e.shake.live.use().print)
	return Event{Kind: KeyChanged, At: now, Text: text}
}

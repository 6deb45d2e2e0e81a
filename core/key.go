package core

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/interconnect"
)

// keysEvery is how often the key file is read.
const keysEvery = time.Second

// watchKeys hands the keys of a file to set when they are others than those in use, until ctx ends. A file that cannot
// be read, or whose keys would cut the partner off, changes nothing, and is tried again.
func watchKeys(
	ctx context.Context, ic *config.Interconnect, set func(key, other []byte) error, log hclog.Logger,
) {
	path, have := ic.KeyFile, [][]byte{ic.Key}
	if ic.OtherKey != nil {
		have = append(have, ic.OtherKey)
	}
	told := ""
	tell := func(text string, args ...any) {
		if text != told {
			told = text
			log.Warn(text, args...)
		}
	}
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		keys, err := config.ReadKeys(path)
		if err != nil {
			tell("ORS-3003: the key file was changed and cannot be used: the keys stay as they were", "error", err)
			continue
		}
		if slices.EqualFunc(keys, have, slices.Equal[[]byte]) {
			told = ""
			continue
		}
		var other []byte
		if len(keys) > 1 {
			other = keys[1]
		}
		err = set(keys[0], other)
		switch {
		case errors.Is(err, interconnect.ErrKeyInUse):
			tell("ORS-3003: the key file was changed, and the keys stay as they were: "+err.Error(), "new",
				interconnect.Fingerprint(keys[0]))
		case err != nil:
			tell("ORS-3003: the key file was changed and cannot be used: the keys stay as they were", "error", err)
		default:
			have, told = keys, ""
			log.Info("the key file was read anew", "keys", len(keys), "first", interconnect.Fingerprint(keys[0]))
		}
	}
}

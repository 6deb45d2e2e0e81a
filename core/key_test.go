package core

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/interconnect"
)

// TestChangedKeyFileIsRead changes the key file of a running agent, in good ways and in bad ones.
func TestChangedKeyFileIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if err := config.KeyGenerate(path); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var given [][2][]byte
	var refuse error
	set := func(key, other []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if refuse == nil {
			given = append(given, [2][]byte{key, other})
		}
		return refuse
	}
	var out bytes.Buffer
	log := hclog.New(&hclog.LoggerOptions{Output: &out, Mutex: &mu})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	keys, err := config.ReadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	old := keys[0]
	wg.Go(func() { watchKeys(ctx, &config.Interconnect{KeyFile: path, Key: old}, set, log) })
	defer func() { cancel(); wg.Wait() }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			mu.Lock()
			yes := ok()
			text := out.String()
			mu.Unlock()
			if yes {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("not within a minute: %s; log:\n%s", what, text)
			}
		}
	}
	content := func() [][]byte {
		t.Helper()
		keys, err := config.ReadKeys(path)
		if err != nil {
			t.Fatal(err)
		}
		return keys
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	until("a file that holds no key is told of", func() bool { return strings.Contains(out.String(), "ORS-3003") })
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := config.KeyAdd(path); err != nil {
		t.Fatal(err)
	}
	both := content()
	until("the new key", func() bool {
		return len(given) > 0 && bytes.Equal(given[len(given)-1][0], both[0]) && bytes.Equal(given[len(given)-1][1], old)
	})
	mu.Lock()
	refuse = interconnect.ErrKeyInUse
	mu.Unlock()
	if err := config.KeyDrop(path); err != nil {
		t.Fatal(err)
	}
	until("a key that is needed is told of", func() bool {
		return strings.Contains(out.String(), interconnect.ErrKeyInUse.Error())
	})
	mu.Lock()
	refuse = nil
	mu.Unlock()
	until("the old key is gone", func() bool {
		return bytes.Equal(given[len(given)-1][0], both[0]) && given[len(given)-1][1] == nil
	})
}

package core

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNetworkCheck(t *testing.T) {
	for want, targets := range map[failover.Answer][]string{
		failover.Yes: {"[fe80::1%none]:7", "127.0.0.1"},
		failover.No:  {"[fe80::1%none]:7"}, // there is no adapter of that name
	} {
		c := &config.Config{NetworkCheck: config.NetworkCheck{Targets: targets, Timeout: 2 * time.Second}}
		if got := networkCheck(c)(context.Background()); got != want {
			t.Errorf("%v: got %v, want %v", targets, got, want)
		}
	}
	if networkCheck(&config.Config{}) != nil {
		t.Error("a check without targets")
	}
}

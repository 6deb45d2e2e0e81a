package core

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/orscore/ors/core/config"
	"github.com/orscore/ors/core/failover"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNetworkCheck(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open := l.Addr().String()
	closed := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}()
	defer func() { _ = l.Close() }()
	nowhere := "[fe80::1%none]:7" // there is no adapter of that name, so nothing is sent
	for name, tt := range map[string]struct {
		targets []string
		want    failover.Answer
	}{
		"a listener":        {[]string{open}, failover.Yes},
		"a refusal":         {[]string{closed}, failover.Yes},
		"an echo":           {[]string{"127.0.0.1"}, failover.Yes},
		"an echo, IPv6":     {[]string{"::1"}, failover.Yes},
		"nobody":            {[]string{nowhere}, failover.No},
		"one of two":        {[]string{nowhere, "127.0.0.1"}, failover.Yes},
		"none of two, echo": {[]string{nowhere, "fe80::1%none"}, failover.No},
	} {
		t.Run(name, func(t *testing.T) {
			c := &config.Config{NetworkCheck: config.NetworkCheck{Targets: tt.targets, Timeout: time.Second}}
			if got := networkCheck(c)(context.Background()); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	if networkCheck(&config.Config{}) != nil {
		t.Error("a check without targets")
	}
}

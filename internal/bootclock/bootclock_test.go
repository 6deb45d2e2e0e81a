package bootclock

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestItIsTheSystemsUptime(t *testing.T) {
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Skip("no /proc/uptime here")
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	// The two are read one after the other, on a machine that may be busy.
	if d := Now() - time.Duration(seconds*1e9); d < -time.Second || d > time.Minute {
		t.Errorf("the clock shows %v, the system is up for %v s", Now(), seconds)
	}
	if later := Now() + time.Hour; Until(later) > time.Hour || Until(later) < 59*time.Minute {
		t.Errorf("an hour from now is %v away", Until(later))
	}
	if Until(Now()) > 0 {
		t.Error("now is still to come")
	}
}

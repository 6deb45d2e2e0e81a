package core

import (
	"os"
	"testing"
)

func TestBootID(t *testing.T) {
	one, err := bootID()
	two, again := bootID()
	if one == "" || one != two || err != nil || again != nil {
		t.Errorf("%q, %v; then %q, %v", one, err, two, again)
	}
	if ft, err := created(uint32(os.Getpid())); err != nil || ft.Nanoseconds() <= 0 {
		t.Errorf("this process was created %v, %v", ft, err)
	}
}

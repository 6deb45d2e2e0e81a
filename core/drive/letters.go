package drive

import (
	"fmt"
	"slices"
)

// letter returns the canonical form ("E:") of a drive letter written as "E:", "e:" or "e". A: and B: are never
// drives, as ever.
func letter(s string) (string, error) {
	b := []byte(s)
	if len(b) == 2 && b[1] == ':' {
		b = b[:1]
	}
	if len(b) == 1 {
		if b[0] >= 'a' && b[0] <= 'z' {
			b[0] -= 'a' - 'A'
		}
		if b[0] >= 'C' && b[0] <= 'Z' {
			return string(b) + ":", nil
		}
	}
	return "", fmt.Errorf("drive letter %q is not one of C: to Z:", s)
}

// freeLetter returns want if it is not taken; else the next letter behind it that is neither taken nor reserved,
// going round from Z: to C:. False: there is none.
func freeLetter(want string, taken, reserved []string) (string, bool) {
	if !slices.Contains(taken, want) {
		return want, true
	}
	const n = 'Z' - 'C' + 1
	for i := 1; i < n; i++ {
		l := string(rune('C'+(int(want[0]-'C')+i)%n)) + ":"
		if !slices.Contains(taken, l) && !slices.Contains(reserved, l) {
			return l, true
		}
	}
	return "", false
}

//go:build linux

package cable

// misread is what a port that runs at one speed makes of bytes that another sends at its own, one after the other: each
// is a start bit, eight bits from the lowest on, and a stop bit, and the receiver looks at the line in the middle of
// what it takes for a bit. Bytes whose stop bit is missing are given out, as Linux does without INPCK.
func misread(sent []byte, from, to int) []byte {
	bits := make([]bool, 0, 10*len(sent))
	for _, x := range sent {
		bits = append(bits, false)
		for n := range 8 {
			bits = append(bits, x>>n&1 != 0)
		}
		bits = append(bits, true)
	}
	// Moments are counted in units of which a sent bit has to, and a bit of the receiver from.
	level := func(at int) bool { // an idle line is high
		n := at / to
		return n >= len(bits) || bits[n]
	}
	var got []byte
	for at := 0; at < len(bits)*to; {
		start := at
		if at > 0 && !level(at-1) { // in the middle of a low stretch: a start bit begins with a falling edge
			for start < len(bits)*to && !level(start) {
				start = (start/to + 1) * to
			}
		}
		for start < len(bits)*to && level(start) {
			start = (start/to + 1) * to
		}
		if start >= len(bits)*to {
			break
		}
		var x byte
		for n := range 8 {
			if level(start + from/2 + (n+1)*from) {
				x |= 1 << n
			}
		}
		got = append(got, x)
		at = start + from/2 + 9*from // to the middle of the stop bit
	}
	return got
}

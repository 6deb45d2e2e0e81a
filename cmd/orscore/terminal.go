package main

import (
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/orscore/ors/core/control/screen"
)

// terminal returns the file behind w when it is a terminal.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// colourful reports whether w shows colours: a terminal that is not dumb, whose user has not set NO_COLOR.
func colourful(w io.Writer) bool {
	_, tty := terminal(w)
	return tty && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// options are the abilities of w; height is that of a terminal, 0 elsewhere.
func options(w io.Writer) (o screen.Options) {
	o = screen.Options{Width: 80, Colour: colourful(w), Unicode: utf8Locale()}
	if f, tty := terminal(w); tty {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			o.Width, o.Height = width, height
		}
	}
	return o
}

// utf8Locale reports whether the locale's characters are UTF-8; the first of the three variables that is set decides.
func utf8Locale() bool {
	if runtime.GOOS == "windows" {
		return true
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(name); v != "" {
			v = strings.ToLower(v)
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

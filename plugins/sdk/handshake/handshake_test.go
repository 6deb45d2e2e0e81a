package handshake

import (
	"errors"
	"strings"
	"testing"
)

func TestSplitProgram(t *testing.T) {
	for _, c := range []struct{ name, kind, version string }{
		{"ors-plugin-lamp", "lamp", ""}, {"ors-plugin-lamp_1.2.0", "lamp", "1.2.0"}, {"ors-plugin-my_lamp", "my_lamp", ""},
		{"ors-plugin-my_lamp_1.2.0-rc.1", "my_lamp", "1.2.0-rc.1"}, {"ors-plugin-lamp_", "lamp_", ""},
		{"ors-plugin-lamp_2", "lamp", "2"}, {"ors-plugin-_2", "_2", ""}, {"ors-plugin-", "", ""}, {"lamp", "", ""},
	} {
		kind, version, ok := SplitProgram(c.name)
		if kind != c.kind || version != c.version || ok != (c.kind != "") {
			t.Errorf("SplitProgram(%q) = %q, %q, %v", c.name, kind, version, ok)
		}
	}
}

func TestCheckKind(t *testing.T) {
	for kind, says := range map[string]string{
		"lamp": "", "my-lamp2": "", "my_lamp": "", "l": "", strings.Repeat("x", 31): "",
		"": "1 to 31", strings.Repeat("x", 32): "1 to 31", "Lamp": "small letter", "2lamp": "small letter", "la mp": "small",
		"lämp": "small", "../x": "small", "_x": "small", "lamp_2": "taken for version 2 of lamp",
	} {
		got := CheckKind(kind)
		if (says == "") != (got == "") || !strings.Contains(got, says) {
			t.Errorf("CheckKind(%q) = %q, want %q", kind, got, says)
		}
	}
}

func TestExplain(t *testing.T) {
	const unrecognized = "Unrecognized remote plugin message: "
	for _, c := range []struct{ err, ended, want string }{
		{unrecognized + "hello", "exit status 1", `it printed "hello" instead of the handshake`},
		{unrecognized + "\nFailed to read any lines", "exit status 1", "it ended without a handshake: exit status 1"},
		{unrecognized + "\nFailed to read any lines", "", "it printed no handshake"},
		{"exec: no such file\nand more", "", "exec: no such file"},
	} {
		if got := Explain(errors.New(c.err), c.ended); got != c.want {
			t.Errorf("%q, %q: %q, want %q", c.err, c.ended, got, c.want)
		}
	}
}

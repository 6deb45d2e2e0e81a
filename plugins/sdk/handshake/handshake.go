// Package handshake holds the few values the core and every plugin must agree on before they can
// speak to each other: the magic cookie, the version of the protocol, the name of the one plugin
// served, and how its program is named. It must never import anything but the standard library, so
// that the core can use it without taking in the SDK.
package handshake

import (
	"fmt"
	"strings"
)

const (
	// MagicCookieKey is the environment variable by which a plugin knows that the core started it.
	// It is a check of usage, not a secret.
	MagicCookieKey = "ORS_PLUGIN"
	// MagicCookieValue is the value MagicCookieKey must have.
	MagicCookieValue = "5c1d9e0f7a3b4e6f8d2a6c04b19f73e5a8d05be2716c4f93"
	// ProtocolVersion is the version of the contract in proto/ors/plugin/v1.
	ProtocolVersion = 1
	// PluginName is the name under which a plugin process serves its ApplicationPlugin service.
	PluginName = "application"
)

// ProgramPrefix begins the name of every plugin's program: ors-plugin-KIND or ors-plugin-KIND_VERSION.
const ProgramPrefix = "ors-plugin-"

// SplitProgram takes the name of a program, without what the system puts behind all programs, apart. The version is
// what follows the last underscore, if that begins with a digit; empty: the name has none. It is not looked at further.
func SplitProgram(name string) (kind, version string, ok bool) {
	rest, ok := strings.CutPrefix(name, ProgramPrefix)
	if !ok || rest == "" {
		return "", "", false
	}
	i := strings.LastIndexByte(rest, '_')
	if i <= 0 || i+1 == len(rest) || !digit(rest[i+1]) {
		return rest, "", true
	}
	return rest[:i], rest[i+1:], true
}

// Explain puts an error of go-plugin's about a program that has printed no handshake into words. Ended says how its
// process has ended; empty: it has not.
func Explain(err error, ended string) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	line, ok := strings.CutPrefix(first, "Unrecognized remote plugin message:")
	line = strings.TrimSpace(line)
	switch {
	case !ok:
		return strings.TrimSpace(first)
	case line != "":
		return fmt.Sprintf("it printed %q instead of the handshake", line)
	case ended != "":
		return "it ended without a handshake: " + ended
	}
	return "it printed no handshake"
}

// mostKind is the longest kind: it is a part of the names of files.
const mostKind = 31

// CheckKind says, as the rest of a sentence, what keeps a word from being a plugin's kind; empty: nothing.
func CheckKind(kind string) string {
	for i, c := range []byte(kind) {
		small := c >= 'a' && c <= 'z'
		if !small && (i == 0 || !digit(c) && c != '-' && c != '_') {
			return "has to be a small letter, then small letters, digits, - and _"
		}
	}
	if kind == "" || len(kind) > mostKind {
		return "has to have 1 to 31 letters"
	}
	if of, version, _ := SplitProgram(ProgramPrefix + kind); version != "" {
		return "would be taken for version " + version + " of " + of + ": no digit may follow its last _"
	}
	return ""
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

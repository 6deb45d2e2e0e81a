package dnsupdate

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/miekg/dns"
)

// Key signs updates, RFC 8945. It never shows its secret.
type Key struct {
	name      string // canonical: small letters, a dot at the end
	algorithm string
	secret    string // base64
}

// String implements fmt.Stringer.
func (k *Key) String() string { return "key " + strings.TrimSuffix(k.name, ".") }

// GoString implements fmt.GoStringer.
func (k *Key) GoString() string { return k.String() }

// algorithms are those that are not broken.
var algorithms = map[string]string{
	"hmac-sha1": dns.HmacSHA1, "hmac-sha224": dns.HmacSHA224, "hmac-sha256": dns.HmacSHA256,
	"hmac-sha384": dns.HmacSHA384, "hmac-sha512": dns.HmacSHA512,
}

// mostKeyBytes is far more than a key file has.
const mostKeyBytes = 64 << 10

// ReadKey reads a key file as `tsig-keygen` writes it. Nobody but its owner may read it.
func ReadKey(path string) (*Key, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	if err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("others may read it (mode %04o)", st.Mode().Perm())
	}
	if err == nil && st.Size() > mostKeyBytes {
		err = fmt.Errorf("%d bytes are no key", st.Size())
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	var k *Key
	if err == nil {
		k, err = parseKey(string(b))
	}
	var at *os.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return k, nil
}

// parseKey reads `key "NAME" { algorithm NAME; secret "BASE64"; };`. No error quotes the text: it may be a secret.
func parseKey(text string) (*Key, error) {
	words, err := split(text)
	if err != nil {
		return nil, err
	}
	if len(words) < 3 || words[0] != "key" || words[2] != "{" {
		return nil, errors.New(`it does not begin with key "NAME" {`)
	}
	k := &Key{name: dns.CanonicalName(words[1])}
	if _, ok := dns.IsDomainName(words[1]); !ok || words[1] == "{" {
		return nil, errors.New("the key has no name")
	}
	rest := words[3:]
	for len(rest) >= 3 && rest[0] != "}" {
		if rest[2] != ";" {
			return nil, errors.New("a statement of the key has no end")
		}
		switch rest[0] {
		case "algorithm":
			k.algorithm = algorithms[strings.ToLower(rest[1])]
			if k.algorithm == "" {
				return nil, errors.New("its algorithm is not one of hmac-sha256, -sha384, -sha512, -sha224, -sha1")
			}
		case "secret":
			k.secret = rest[1]
			if b, err := base64.StdEncoding.DecodeString(k.secret); err != nil || len(b) == 0 {
				return nil, errors.New("its secret is not base64")
			}
		default:
			return nil, errors.New("it has a statement that is neither algorithm nor secret")
		}
		rest = rest[3:]
	}
	if len(rest) < 2 || rest[0] != "}" || rest[1] != ";" {
		return nil, errors.New("the key has no end: };")
	}
	if len(rest) > 2 {
		return nil, errors.New("there is more than one key in it")
	}
	if k.algorithm == "" || k.secret == "" {
		return nil, errors.New("it lacks algorithm or secret")
	}
	return k, nil
}

// split makes words of the text: braces and semicolons are words, quotes are taken off, comments left out.
func split(text string) ([]string, error) {
	var words []string
	for text = strings.TrimLeft(text, " \t\r\n"); text != ""; text = strings.TrimLeft(text, " \t\r\n") {
		n := 1
		switch {
		case text[0] == '#' || strings.HasPrefix(text, "//"):
			if n = strings.IndexByte(text, '\n'); n < 0 {
				n = len(text)
			}
		case strings.HasPrefix(text, "/*"):
			end := strings.Index(text[2:], "*/")
			if end < 0 {
				return nil, errors.New("a comment has no end")
			}
			n = end + 4
		case text[0] == '{' || text[0] == '}' || text[0] == ';':
			words = append(words, text[:1])
		case text[0] == '"':
			end := strings.IndexByte(text[1:], '"')
			if end < 0 {
				return nil, errors.New("a quoted text has no end")
			}
			words = append(words, text[1:1+end])
			n = end + 2
		default:
			if n = strings.IndexAny(text, " \t\r\n{};\""); n < 0 {
				n = len(text)
			}
			words = append(words, text[:n])
		}
		text = text[n:]
	}
	return words, nil
}

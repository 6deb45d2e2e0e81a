// Package scaffold makes the first version of a plugin in Go: a module of its own that builds, keeps the contract, and
// protects a program. `orscore plugin new` writes it.
//
// It must never write over a file.
package scaffold

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/orscore/ors/plugins/sdk/handshake"
)

//go:embed template
var templates embed.FS

// Plugin is what a new plugin is made of.
type Plugin struct {
	Name    string // kind
	Go      string // version of the language, such as 1.26
	Require string // version of the module github.com/orscore/ors
	SDK     string // folder with that module, to be used instead of a published version; empty: none
}

// Write makes the folder and the files of the plugin in it, and returns their paths.
func (p Plugin) Write(dir string) ([]string, error) {
	if why := handshake.CheckKind(p.Name); why != "" {
		return nil, fmt.Errorf("%q cannot be the kind of a plugin: it %s", p.Name, why)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("there is already a %s: nothing was written", dir)
		}
		return nil, err
	}
	t, err := template.ParseFS(templates, "template/*.tmpl")
	if err != nil {
		return nil, err
	}
	var written []string
	for _, one := range t.Templates() {
		var text strings.Builder
		if err := one.Execute(&text, p); err != nil {
			return written, err
		}
		path := filepath.Join(dir, strings.TrimSuffix(one.Name(), ".tmpl"))
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			return written, err
		}
		written = append(written, path)
	}
	return written, nil
}

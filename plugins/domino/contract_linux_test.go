package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/orscore/ors/internal/netnstest"
	"github.com/orscore/ors/plugins/sdk/plugintest"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// TestContract: the plugin passes the conformance kit with a partition of the stand-in server.
func TestContract(t *testing.T) {
	ns := netnstest.Prefix(t) + "domino"
	f := &fixture{TB: t, ip: "172.25.36.46"}
	for _, args := range [][]string{
		{"netns", "add", ns}, {"-n", ns, "link", "set", "lo", "up"}, {"-n", ns, "addr", "add", f.ip + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v %s", args, err, out)
		}
	}
	plugintest.Conform(t, plugintest.Options{
		Command: []string{"ip", "netns", "exec", ns, "unshare", "--ipc", filepath.Join(programs, "ors-plugin-domino")},
		Config: func(schema *pluginv1.Block, drives []*pluginv1.Drive) ([]byte, error) {
			f.drive = drives[0].GetPath()
			for dir := f.drive; dir != os.TempDir(); dir = filepath.Dir(dir) { // the partition runs as another user
				if err := os.Chmod(dir, 0o755); err != nil {
					return nil, err
				}
			}
			f.ini(0, "ServerName="+apollo, "TCPIP_TcpIpAddress=0,"+f.at(0))
			return plugintest.Config(schema, map[string]any{
				"program": filepath.Join(programs, "server"),
				"partition": []map[string]any{
					{"name": apollo, "data": f.data(0), "address": f.at(0), "number": 1, "user": users[0]},
				},
			})
		},
	})
}

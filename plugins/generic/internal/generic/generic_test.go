package generic

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/orscore/ors/plugins/sdk"
)

// mistakes are changes of a good configuration.
var mistakes = map[string]struct {
	change func(*config)
	attr   string // of the one problem; empty: none
	words  string
}{
	"good":         {func(*config) {}, "", ""},
	"bare name":    {func(c *config) { c.Command = []string{"nginx"} }, "", ""},
	"batch":        {func(c *config) { c.Mode = "batch" }, "", ""},
	"no command":   {func(c *config) { c.Command = nil }, "command", "empty"},
	"relative":     {func(c *config) { c.Command = []string{"bin/server"} }, "command", "bin/server"},
	"empty name":   {func(c *config) { c.Command = []string{""} }, "command", "neither"},
	"mode":         {func(c *config) { c.Mode = "deamon" }, "mode", "deamon"},
	"folder":       {func(c *config) { c.WorkingDirectory = "data" }, "working_directory", "data"},
	"log file":     {func(c *config) { c.LogFile = "log" }, "log_file", "log"},
	"log size":     {func(c *config) { c.LogMaxMB = -1 }, "log_max_mb", "-1"},
	"variable":     {func(c *config) { c.Environment = map[string]string{"A=B": ""} }, "environment", "A=B"},
	"value":        {func(c *config) { c.Environment = map[string]string{"A": "x\x00y"} }, "environment", "zero byte"},
	"argument":     {func(c *config) { c.Command = []string{"true", "x\x00y"} }, "command[1]", "zero byte"},
	"path":         {func(c *config) { c.LogFile = "/x\x00y" }, "log_file", "zero byte"},
	"success code": {func(c *config) { c.SuccessCodes = []int{0, 256} }, "success_codes[1]", "256"},
	"exit code":    {func(c *config) { c.ExitCodes = map[string]string{"one": ""} }, "exit_codes", "one"},
	"prepare command": {
		func(c *config) { c.BeforeStart = []beforeStart{{Timeout: "1s"}} }, "before_start[0].command", "empty",
	},
	"prepare time-out": {
		func(c *config) { c.BeforeStart = []beforeStart{{[]string{"true"}, "1"}} }, "before_start[0].timeout", `"1"`,
	},
	"stop signal":       {func(c *config) { c.Stop = []stop{{nil, "TERM", "1s", "1s"}} }, "stop[0].signal", "TERM"},
	"signal of a child": {func(c *config) { c.Stop = []stop{{nil, "SIGCHLD", "1s", "1s"}} }, "stop[0].signal", "ends at"},
	"stop time-out":     {func(c *config) { c.Stop = []stop{{nil, "SIGTERM", "-1s", "1s"}} }, "stop[0].timeout", "-1s"},
	"stop kill":         {func(c *config) { c.Stop = []stop{{nil, "SIGTERM", "1s", ""}} }, "stop[0].kill_after", `""`},
	"stop command": {
		func(c *config) { c.Stop = []stop{{[]string{"./x"}, "SIGTERM", "1s", "1s"}} }, "stop[0].command", "./x",
	},
	"check type":        {func(c *config) { c.Check[0].Type = "ping" }, "check[0].type", "ping"},
	"check interval":    {func(c *config) { c.Check[0].Interval = "often" }, "check[0].interval", "often"},
	"check time-out":    {func(c *config) { c.Check[0].Timeout = "0s" }, "check[0].timeout", "0s"},
	"check rise":        {func(c *config) { c.Check[0].Rise = 0 }, "check[0].rise", "0"},
	"tcp without port":  {func(c *config) { c.Check[0].Address = "localhost" }, "check[0].address", "localhost"},
	"tcp by service":    {func(c *config) { c.Check[0].Address = "localhost:http" }, "", ""},
	"tcp port":          {func(c *config) { c.Check[0].Address = "localhost:99999" }, "check[0].address", "99999"},
	"tcp port below":    {func(c *config) { c.Check[0].Address = "localhost:-1" }, "check[0].address", "-1"},
	"tcp port of none":  {func(c *config) { c.Check[0].Address = "localhost:0" }, "check[0].address", `"0"`},
	"tcp service":       {func(c *config) { c.Check[0].Address = "localhost:postgers" }, "check[0].address", "postgers"},
	"http port":         {func(c *config) { c.Check[1].URL = "http://a:99999/" }, "check[1].url", "99999"},
	"tcp with a url":    {func(c *config) { c.Check[0].URL = "http://a/" }, "check[0].url", "tcp"},
	"tcp with command":  {func(c *config) { c.Check[0].Command = []string{"true"} }, "check[0].command", "tcp"},
	"http without host": {func(c *config) { c.Check[1].URL = "http:///x" }, "check[1].url", "http:///x"},
	"http scheme":       {func(c *config) { c.Check[1].URL = "ftp://a/" }, "check[1].url", "ftp"},
	"http status":       {func(c *config) { c.Check[1].Status = 42 }, "check[1].status", "42"},
	"http with address": {func(c *config) { c.Check[1].Address = "a:1" }, "check[1].address", "http"},
	"systemd":           {func(c *config) { c.Systemd = "service" }, "systemd", "service"},
	"limits":            {func(c *config) { c.Limits = []limits{{1024, -1, 0, -1, -1}} }, "", ""},
	"limits of a unit": {
		func(c *config) { c.Systemd, c.User, c.Limits = "unit", "nobody", []limits{{1024, 50, 0, 512, 150}} }, "", "",
	},
	"no files":          {func(c *config) { c.Limits = []limits{{0, -1, -1, -1, -1}} }, "limits[0].open_files", "16 to"},
	"processes of root": {func(c *config) { c.Limits = []limits{{-1, 9, -1, -1, -1}} }, "limits[0].processes", "no user"},
	"memory, no unit":   {func(c *config) { c.Limits = []limits{{-1, -1, -1, 9, -1}} }, "limits[0].memory_mb", "unit"},
	"no processor":      {func(c *config) { c.Systemd, c.Limits = "unit", []limits{{-1, -1, -1, -1, 0}} }, "limits[0].cpu_percent", "0 is"},
	"command check":     {func(c *config) { c.Check[2].Command = nil }, "check[2].command", "empty"},
}

func TestValidate(t *testing.T) {
	if !supported {
		t.Skip("the whole plugin refuses this operating system")
	}
	for name, c := range mistakes {
		t.Run(name, func(t *testing.T) {
			conf := config{
				Command: []string{"/usr/sbin/server", "-x"}, Mode: "service", WorkingDirectory: "/", LogMaxMB: 10,
				SuccessCodes: []int{0}, Systemd: "none",
				Check: []check{
					{Type: "tcp", Address: "127.0.0.1:80", Timeout: "1s", Interval: "1s", Rise: 1},
					{Type: "http", URL: "http://127.0.0.1/", Timeout: "1s", Interval: "1s", Rise: 1},
					{Type: "command", Command: []string{"true"}, Timeout: "1s", Interval: "1s", Rise: 1},
				},
			}
			c.change(&conf)
			b, err := json.Marshal(conf)
			if err != nil {
				t.Fatal(err)
			}
			app, err := newApplication(sdk.Instance{Config: b})
			if err != nil {
				t.Fatal(err)
			}
			found := app.Validate(context.Background())
			switch {
			case c.attr == "" && len(found) == 0:
			case len(found) != 1 || found[0].Attribute != c.attr || !strings.Contains(found[0].Summary, c.words) ||
				found[0].Detail == "":
				t.Errorf("problems are %+v, want one about %q that says %q", found, c.attr, c.words)
			}
		})
	}
}

// TestSchemaFitsConfig decodes what a core would send for a body with every block in it, so that schema and struct do
// not come apart.
func TestSchemaFitsConfig(t *testing.T) {
	filled := object(schema)
	b, err := json.Marshal(filled)
	if err != nil {
		t.Fatal(err)
	}
	app, err := newApplication(sdk.Instance{Config: b})
	if err != nil {
		t.Fatal(err)
	}
	c := app.(*application).config
	if len(c.Stop) != 1 || c.Stop[0].Signal != defaultStop.Signal || c.Stop[0].Timeout != defaultStop.Timeout ||
		c.Stop[0].KillAfter != defaultStop.KillAfter || c.LogMaxMB != 10 || c.Check[0].Rise != 1 {
		t.Errorf("defaults became %+v", c)
	}
}

func object(s sdk.Schema) map[string]any {
	out := map[string]any{}
	for _, a := range s.Attributes {
		var v any
		if a.Default != "" {
			if err := json.Unmarshal([]byte(a.Default), &v); err != nil {
				panic(a.Name + ": " + err.Error())
			}
		}
		out[a.Name] = v
	}
	for _, b := range s.Blocks {
		one := object(b.Body)
		for _, l := range b.Labels {
			one[l] = "label"
		}
		out[b.Name] = []any{one}
	}
	return out
}

// TestDocsNameEveryAttribute keeps docs/plugins.md complete.
func TestDocsNameEveryAttribute(t *testing.T) {
	b, err := os.ReadFile("../../../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	var look func(s sdk.Schema)
	look = func(s sdk.Schema) {
		for _, a := range s.Attributes {
			if a.Description == "" || !strings.Contains(string(b), a.Name) {
				t.Errorf("%s is not described", a.Name)
			}
		}
		for _, inner := range s.Blocks {
			look(inner.Body)
		}
	}
	look(schema)
}

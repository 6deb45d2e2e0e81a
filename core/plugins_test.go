package core

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/orscore/ors/core/arrival"
	"github.com/orscore/ors/core/store"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// TestPluginsAreToldOfEvents: of the pair, its links and its groups, from now on, and of nothing else.
func TestPluginsAreToldOfEvents(t *testing.T) {
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = st.Close() }()
	a := &agent{store: st}
	note := func(all ...store.Record) {
		t.Helper()
		for _, r := range all {
			if err := st.Append(&r); err != nil {
				t.Fatal(err)
			}
		}
	}
	come := arrival.Notice{Step: arrival.Arrived, Group: "rocky", Server: "apollo", Event: arrival.Takeover, Text: "It is here.",
		Drives: []arrival.Drive{{Letter: "G:", Path: "/ors/G", Configured: "E:"}}}
	ran := arrival.Notice{Step: arrival.Ran, Group: "rocky", Run: &arrival.Run{Program: "p"}}
	here, left := come, come
	here.Group, here.Text, left.Group, left.Step = "apollo", "It has been here.", "gone", arrival.Left
	note(store.Record{Kind: store.KindVerdict, Text: "Long ago."}, here.Record(), left.Record())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	enough := errors.New("enough")
	drives := []*pluginv1.Drive{{Letter: "G:", Path: "/ors/G", ConfiguredLetter: "E:"}}
	want := []*pluginv1.EventsRequest{
		{Kind: "group", Group: "apollo", Text: "It has been here.", Step: "arrived", Event: "takeover", Drives: drives},
		{Kind: "pair", Text: "The partner is lost."}, {Kind: "link", Text: "cable: silent."},
		{Kind: "group", Group: "rocky", Text: "It is here.", Step: "arrived", Event: "takeover",
			Drives: drives},
	}
	done := make(chan error, 1)
	got := make(chan *pluginv1.EventsRequest, 9)
	go func() {
		done <- a.events(ctx, func(e *pluginv1.EventsRequest) error {
			got <- e
			if e.GetGroup() == "rocky" {
				return enough
			}
			return nil
		})
	}()
	present := <-got // so the position from which on it follows is known
	note(store.Record{Kind: store.KindVerdict, Text: "The partner is lost."}, store.Record{Kind: store.KindAlarm, Text: "No."},
		ran.Record(), store.Record{Kind: store.KindLink, Text: "cable: silent."}, come.Record())
	if err := <-done; !errors.Is(err, enough) {
		t.Fatal(err)
	}
	for i, w := range want {
		g := present
		if i > 0 {
			g = <-got
		}
		if !proto.Equal(g, w) {
			t.Errorf("told %v, want %v", g, w)
		}
	}
}

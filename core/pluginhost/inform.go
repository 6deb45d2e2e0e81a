package pluginhost

import (
	"context"

	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// EventFeed hands what happens to the pair and its groups to send, from now on, until ctx ends or send fails. It must
// not make anybody else wait for send, which waits for the plugin.
type EventFeed func(ctx context.Context, send func(*pluginv1.EventsRequest) error) error

// inform tells a process what happens, where it wants to know, until the returned function is called.
func (in *instance) inform(ctx context.Context, p *process) (stop func()) {
	if in.h.o.Events == nil || !p.info.GetEvents() {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		stream, err := p.service.Events(ctx)
		if err == nil {
			err = in.h.o.Events(ctx, stream.Send)
		}
		if err != nil && ctx.Err() == nil && !p.ended() {
			in.h.o.Log.Warn("plugin is told of no more events", "plugin", in.name(), "error", err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

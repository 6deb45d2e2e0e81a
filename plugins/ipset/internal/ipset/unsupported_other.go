//go:build !linux

package ipset

import (
	"context"
	"errors"

	"github.com/orscore/ors/plugins/sdk"
)

const supported = false

var errUnsupported = errors.New("addresses are not moved on this operating system yet")

func carryOut(context.Context, Order, func(string)) error { return errUnsupported }

// Ready implements sdk.Application.
func (a *application) Ready(ctx context.Context) []sdk.Problem { return a.Validate(ctx) }

// Start implements sdk.Application.
func (a *application) Start(context.Context, *sdk.Handle, sdk.Progress) (sdk.Handle, error) {
	return sdk.Handle{}, errUnsupported
}

// Recover implements sdk.Application: nothing can have been started.
func (a *application) Recover(context.Context, *sdk.Handle) sdk.Recovered {
	return sdk.Recovered{State: sdk.Stopped, Detail: errUnsupported.Error()}
}

// Probe implements sdk.Application.
func (a *application) Probe(context.Context, *sdk.Handle) sdk.Probed {
	return sdk.Probed{Health: sdk.HealthUnknown, Detail: errUnsupported.Error()}
}

// Stop implements sdk.Application.
func (a *application) Stop(context.Context, *sdk.Handle) sdk.Ended {
	return sdk.Ended{State: sdk.Stopped, Detail: errUnsupported.Error()}
}

// Kill implements sdk.Application.
func (a *application) Kill(context.Context, *sdk.Handle) sdk.Ended {
	return sdk.Ended{State: sdk.Stopped, Detail: errUnsupported.Error()}
}

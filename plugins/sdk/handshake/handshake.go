// Package handshake holds the few values the core and every plugin must agree on before they can
// speak to each other: the magic cookie, the version of the protocol and the name of the one plugin
// served. It must never import anything, so that the core can use it without taking in the SDK.
package handshake

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

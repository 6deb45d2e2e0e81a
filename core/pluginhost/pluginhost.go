// Package pluginhost finds, checks, starts and watches plugins, and calls them for the core. Each plugin is a process of its
// own over hashicorp/go-plugin with mutual TLS.
//
// It must never run a plugin whose hash or version is not as pinned, never wait for one without a deadline, and never take
// a missing answer for "stopped": it reports unknown.
package pluginhost

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"

	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

// serve serves with go-plugin, until the core asks it to end.
func (s *server) serve() {
	if is("runs-by-hand") && os.Getenv(handshake.MagicCookieKey) == "" {
		time.Sleep(time.Minute)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: plugin.HandshakeConfig{
			ProtocolVersion: handshake.ProtocolVersion, MagicCookieKey: handshake.MagicCookieKey,
			MagicCookieValue: handshake.MagicCookieValue,
		},
		VersionedPlugins: map[int]plugin.PluginSet{handshake.ProtocolVersion: {handshake.PluginName: side{s: s}}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.StatsHandler(s))...)
		},
	})
	if is("stops-when-it-ends") {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, a := range s.apps {
			_ = a.kill()
		}
	}
}

type side struct {
	plugin.NetRPCUnsupportedPlugin
	s *server
}

func (g side) GRPCServer(_ *plugin.GRPCBroker, r *grpc.Server) error {
	pluginv1.RegisterPluginServiceServer(r, g.s)
	return nil
}

func (side) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.ErrUnsupported
}

// serveByHand serves without go-plugin, and without asking callers who they are.
func (s *server) serveByHand() {
	err := func() error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		t := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		}
		der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
		if err != nil {
			return err
		}
		path := filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), fmt.Sprintf("p%d", os.Getpid()))
		l, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		r := grpc.NewServer(grpc.StatsHandler(s), grpc.Creds(credentials.NewTLS(&tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		})))
		pluginv1.RegisterPluginServiceServer(r, s)
		_, _ = fmt.Fprintf(os.Stdout, "1|1|unix|%s|grpc|%s\n", path, base64.RawStdEncoding.EncodeToString(der))
		return r.Serve(l)
	}()
	_, _ = fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TagConn implements stats.Handler.
func (s *server) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// TagRPC implements stats.Handler.
func (s *server) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (s *server) HandleRPC(context.Context, stats.RPCStats) {}

// HandleConn implements stats.Handler: it sees the core go. Strangers, who come and go, are refused before they count.
func (s *server) HandleConn(_ context.Context, c stats.ConnStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch c.(type) {
	case *stats.ConnBegin:
		s.connects++
	case *stats.ConnEnd:
		if s.connects--; s.connects == 0 {
			close(s.gone)
		}
	}
}

package plugintest

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
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-version"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/orscore/ors/internal/bootclock"
	"github.com/orscore/ors/plugins/sdk/handshake"
	pluginv1 "github.com/orscore/ors/proto/ors/plugin/v1"
)

func (k *kit) handshake() (string, error) {
	begin := time.Now()
	if err := k.launch(); err != nil {
		return "", err
	}
	took := time.Since(begin)
	fields := strings.Split(strings.TrimRight(k.plugin.line, "\r"), "|")
	network := "unix"
	if runtime.GOOS == "windows" {
		network = "tcp"
	}
	for i, want := range []string{"1", strconv.Itoa(handshake.ProtocolVersion), network, "", "grpc"} {
		if i >= len(fields) || want != "" && fields[i] != want {
			return "", fmt.Errorf("field %d of the handshake %q has to be %q", i+1, k.plugin.line, want)
		}
	}
	if k.o.NoTLS {
		if len(fields) > 5 && fields[5] != "" {
			return "", fmt.Errorf("the handshake %q has a certificate, and nobody has asked for TLS", k.plugin.line)
		}
		return fmt.Sprintf("%s, after %v.", strings.Join(fields[:5], "|"), took.Round(time.Millisecond)), nil
	}
	if len(fields) < 6 || fields[5] == "" {
		return "", fmt.Errorf("the handshake %q has no certificate in field 6: nobody could tell the plugin from another "+
			"program. One that cannot speak TLS needs `tls = false`, and is checked with --tls=false", k.plugin.line)
	}
	der, err := base64.RawStdEncoding.DecodeString(fields[5])
	if err != nil {
		return "", fmt.Errorf("field 6 of the handshake is no base64 without padding: %w", err)
	}
	if _, err := x509.ParseCertificate(der); err != nil {
		return "", fmt.Errorf("field 6 of the handshake is no certificate: %w", err)
	}
	return fmt.Sprintf("%s, after %v.", strings.Join(fields[:5], "|"), took.Round(time.Millisecond)), nil
}

// cookie runs the program as somebody who tries it by hand.
func (k *kit) cookie() (string, error) {
	ctx, cancel := context.WithTimeout(k.ctx, shortCall)
	defer cancel()
	var out, errs output
	cmd := exec.CommandContext(ctx, k.o.Command[0], k.o.Command[1:]...)
	cmd.Env = environment()
	cmd.Dir = string(os.PathSeparator)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = drain
	ownSession(cmd)
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("started without %s it goes on for more than %v", handshake.MagicCookieKey, shortCall)
	case err == nil:
		return "", fmt.Errorf("started without %s it ends with exit code 0, as if all were well", handshake.MagicCookieKey)
	case !errors.As(err, &exit):
		return "", err
	case strings.TrimSpace(out.String()+errs.String()) == "":
		return "", fmt.Errorf("started without %s it ends without a word", handshake.MagicCookieKey)
	}
	return fmt.Sprintf("It ends with exit code %d.", exit.ExitCode()), nil
}

// mutualTLS calls the plugin as others on this server could.
func (k *kit) mutualTLS() (string, error) {
	if k.o.NoTLS {
		return k.privateSocket()
	}
	stranger, err := certificate()
	if err != nil {
		return "", err
	}
	open := &tls.Config{InsecureSkipVerify: true} // this caller trusts everybody
	known := open.Clone()
	known.Certificates = []tls.Certificate{stranger}
	for _, c := range []struct {
		who  string
		with credentials.TransportCredentials
	}{
		{"without TLS", insecure.NewCredentials()},
		{"without a certificate", credentials.NewTLS(open)},
		{"with a certificate of its own", credentials.NewTLS(known)},
	} {
		addr := k.plugin.client.ReattachConfig().Addr
		target := addr.Network() + ":" + addr.String()
		if addr.Network() == "tcp" {
			target = "passthrough:///" + addr.String()
		}
		conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(c.with))
		if err != nil {
			return "", err
		}
		ctx, cancel := context.WithTimeout(k.ctx, shortCall)
		_, err = pluginv1.NewPluginServiceClient(conn).Info(ctx, &pluginv1.InfoRequest{})
		cancel()
		_ = conn.Close()
		if err == nil {
			return "", fmt.Errorf("a caller %s was answered", c.who)
		}
		if status.Code(err) == codes.DeadlineExceeded {
			return "", fmt.Errorf("a caller %s was neither answered nor refused within %v", c.who, shortCall)
		}
	}
	return "Three strangers were refused: without TLS, without a certificate, with one of their own.", nil
}

// privateSocket stands for certificates: others do not reach a socket in that folder. Who listens there is asked of
// the kernel with each connection.
func (k *kit) privateSocket() (string, error) {
	addr := k.plugin.client.ReattachConfig().Addr
	if !strings.HasPrefix(addr.String(), k.socketDir()+string(filepath.Separator)) {
		return "", fmt.Errorf("without TLS the socket %s has to be in the folder that PLUGIN_UNIX_SOCKET_DIR names", addr)
	}
	return "Without TLS: the socket is in its private folder, and the process that was started listens.", nil
}

func certificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func (k *kit) infoSays() (string, error) {
	info, err := call(k, "Info", shortCall, k.plugin.service.Info, &pluginv1.InfoRequest{})
	if err != nil {
		return "", err
	}
	k.info = info
	name := strings.TrimSuffix(filepath.Base(programOf(k.o.Command)), ".exe")
	kind, claimed, named := handshake.SplitProgram(name)
	says, verr := version.NewSemver(info.GetVersion())
	wants, cerr := version.NewSemver(claimed)
	why := handshake.CheckKind(info.GetKind())
	switch {
	case why != "":
		return "", fmt.Errorf("the kind %q %s", info.GetKind(), why)
	case named && kind != info.GetKind():
		return "", fmt.Errorf("the program %s serves the kind %q: the core would not run it", name, info.GetKind())
	case verr != nil:
		return "", fmt.Errorf("the version %q is no semantic version such as 1.4.0", info.GetVersion())
	case claimed != "" && (cerr != nil || !wants.Equal(says)):
		return "", fmt.Errorf("the program %s is of version %s: the core would not run it", name, info.GetVersion())
	case strings.TrimSpace(info.GetDescription()) == "" || strings.Contains(info.GetDescription(), "\n"):
		return "", fmt.Errorf("the description %q has to be one sentence", info.GetDescription())
	}
	return fmt.Sprintf("Kind %s, version %s: %s", info.GetKind(), info.GetVersion(), info.GetDescription()), nil
}

func (k *kit) schemaHolds() (string, error) {
	r, err := call(k, "Schema", shortCall, k.plugin.service.Schema, &pluginv1.SchemaRequest{})
	if err != nil {
		return "", err
	}
	if err := checkSchema(r.GetSchema(), "", nil, deepest); err != nil {
		return "", err
	}
	k.schema = r.GetSchema()
	return fmt.Sprintf("Attributes: %d, blocks: %d.", len(k.schema.GetAttributes()), len(k.schema.GetBlocks())), nil
}

// optional looks at the two calls that a plugin may leave out.
func (k *kit) optional() (string, error) {
	info, err := call(k, "Info", shortCall, k.plugin.service.Info, &pluginv1.InfoRequest{})
	if err != nil {
		return "", err
	}
	_, err = call(k, "Events", shortCall, k.events, nil)
	if err := agrees("Events", "events", info.GetEvents(), err); err != nil {
		return "", err
	}
	if !info.GetLeases() {
		a := k.app()
		_, err := call(k, "Renew", shortCall, k.plugin.service.Renew, &pluginv1.RenewRequest{
			Caller: a.caller(), Application: a.pb, Sequence: 1, UntilNs: uint64(bootclock.Now() + time.Minute),
		})
		if err := agrees("Renew", "leases", false, err); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Events: %v, leases: %v.", info.GetEvents(), info.GetLeases()), nil
}

func agrees(name, field string, told bool, err error) error {
	absent := status.Code(errors.Unwrap(err)) == codes.Unimplemented
	switch {
	case told && err != nil:
		return err
	case !told && err == nil:
		return fmt.Errorf("Info says that %s is not served (%s), and it answers", name, field)
	case !told && !absent:
		return fmt.Errorf("Info says that %s is not served (%s), which the call has to answer with Unimplemented: %w", name,
			field, err)
	}
	return nil
}

// events sends one event of each kind, and ends the stream.
func (k *kit) events(ctx context.Context, _ *pluginv1.EventsRequest,
	opts ...grpc.CallOption) (*pluginv1.EventsResponse, error) {
	stream, err := k.plugin.service.Events(ctx, opts...)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"pair", "link", "group", "of a later version"} {
		err := stream.Send(&pluginv1.EventsRequest{Kind: kind, Group: groupName, Text: "A check.", Drives: k.drives})
		if err != nil {
			break // the reason is in the answer
		}
	}
	return stream.CloseAndRecv()
}

func (k *kit) stdout() (string, error) {
	time.Sleep(drain) // go-plugin carries what is printed over the connection, beside the calls
	if text := k.prints.String(); text != "" {
		return "", fmt.Errorf("printed: %q", text[:min(len(text), 200)])
	}
	return fmt.Sprintf("Nothing in %d calls.", k.operations.Load()), nil
}

// accidents are what a log shows of a program that was not ready for what came.
var accidents = []string{
	"panic:", "the plugin panicked", "fatal error:", "Traceback (most recent call last)", "WARNING: DATA RACE",
	"Segmentation fault",
}

func (k *kit) logIsClean() (string, error) {
	b, err := os.ReadFile(k.log.Name())
	if err != nil {
		return "", err
	}
	lines := strings.Split(strings.ToValidUTF8(string(b), "?"), "\n")
	for _, a := range accidents {
		if i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, a) }); i >= 0 {
			end := min(i+20, len(lines))
			return "", fmt.Errorf("it logged %q", strings.Join(lines[i:end], "\n"))
		}
	}
	return fmt.Sprintf("Lines: %d.", len(lines)-1), nil
}

// Command notified is an example of a program that is no plugin and is told of groups: it registers at this server's
// agent, keeps a file for each group that is here, and reports what it did. It is built from the protocol alone
// (proto/ors/control/v1), as a program in another language would be; README.md tells how to run it.
//
// It must never use a group's drives after it was told that the group leaves.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controlv1 "github.com/orscore/ors/proto/ors/control/v1"
)

func main() {
	socket := flag.String("socket", "/run/ors/control.sock", "control socket of the agent")
	folder := flag.String("folder", "/run/notified", "folder for one file a group")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p := &program{folder: *folder}
	if err := os.MkdirAll(p.folder, 0o755); err != nil {
		log.Fatal(err)
	}
	for ctx.Err() == nil { // an agent that is away comes back: nothing is missed meanwhile
		err := p.listen(ctx, *socket)
		if ctx.Err() != nil {
			break
		}
		log.Printf("not registered: %v", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// program remembers how far it has been told.
type program struct {
	folder   string
	position uint64
}

// listen registers and works until the connection ends.
func (p *program) listen(ctx context.Context, socket string) error {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stream, err := controlv1.NewControlServiceClient(conn).Notify(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&controlv1.NotifyRequest{Message: &controlv1.NotifyRequest_Register{
		Register: &controlv1.Register{Program: "notified", After: p.position}}})
	for err == nil {
		var n *controlv1.NotifyResponse
		if n, err = stream.Recv(); err != nil {
			break
		}
		did, failed := p.take(n)
		if did != "" {
			// the same for the same notice: if the answer is lost, and all is told and done again, it is on record once
			report := &controlv1.Report{Id: strconv.FormatUint(n.GetPosition(), 10), Group: n.GetGroup(), Text: did}
			if failed != nil {
				report.Text, report.ExitCode = failed.Error(), 1
			}
			err = stream.Send(&controlv1.NotifyRequest{Message: &controlv1.NotifyRequest_Report{Report: report}})
		}
		p.position = n.GetPosition() // only now: what could not be reported is told again
	}
	return err
}

// take does what has to be done about a notice; nothing is an answer, too. The same notice twice does no harm.
func (p *program) take(n *controlv1.NotifyResponse) (did string, err error) {
	file := filepath.Join(p.folder, filepath.Base(n.GetGroup()))
	switch n.GetStep() {
	case "registered":
		log.Print(n.GetText())
	case "arrived", "up": // "up", too: that is what is told of a group that was here before
		var text strings.Builder
		fmt.Fprintf(&text, "%s from %s to %s, status %d\n", n.GetEvent(), n.GetFrom(), n.GetServer(), n.GetStatus())
		for _, d := range n.GetDrives() {
			fmt.Fprintf(&text, "%s %s\n", d.GetLetter(), d.GetPath())
		}
		return "its file is written", os.WriteFile(file, []byte(text.String()), 0o644)
	case "leaving": // from now on the drives must not be used any more
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "its file is removed", err
		}
		return "its file is removed", nil
	}
	return "", nil
}

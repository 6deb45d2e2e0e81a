//go:build linux

package enclosure

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/orscore/ors/core/storage"
)

const maxIO = 1 << 20 // bytes in one request of the kernel

// mount shows the ports as files. Unmount of the returned server ends it.
func (e *Enclosure) mount() (*fuse.Server, error) {
	s, err := fs.Mount(e.cfg.MountPath(), &folder{build: e.folders}, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, FsName: "orslab-enclosure", Name: "orslab", MaxWrite: maxIO, DisableXAttrs: true,
		MaxBackground: 64,
	}})
	if err != nil {
		return nil, fmt.Errorf("mounting the ports at %s: %w", e.cfg.MountPath(), err)
	}
	return s, nil
}

// folder is a directory whose children are made once.
type folder struct {
	fs.Inode
	build func(ctx context.Context, parent *fs.Inode)
}

var _ fs.NodeOnAdder = (*folder)(nil)

// OnAdd makes the children.
func (d *folder) OnAdd(ctx context.Context) { d.build(ctx, &d.Inode) }

func (e *Enclosure) folders(ctx context.Context, parent *fs.Inode) {
	for _, name := range e.order {
		u := e.units[name]
		dir := &folder{build: func(ctx context.Context, parent *fs.Inode) {
			for _, p := range ports {
				file := parent.NewPersistentInode(ctx, &port{u: u, p: p}, fs.StableAttr{Mode: fuse.S_IFREG})
				parent.AddChild(fmt.Sprintf("port%d", p), file, true)
			}
		}}
		parent.AddChild(name, parent.NewPersistentInode(ctx, dir, fs.StableAttr{Mode: fuse.S_IFDIR}), true)
	}
}

// port is the file of one port of one unit.
type port struct {
	fs.Inode
	u *unit
	p storage.Position
}

var (
	_ fs.NodeGetattrer = (*port)(nil)
	_ fs.NodeSetattrer = (*port)(nil)
	_ fs.NodeOpener    = (*port)(nil)
	_ fs.NodeReader    = (*port)(nil)
	_ fs.NodeWriter    = (*port)(nil)
	_ fs.NodeFsyncer   = (*port)(nil)
	_ fs.NodeFlusher   = (*port)(nil)
)

// Getattr answers with the unit's size, connected or not: a host sees its port all the time.
func (f *port) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = fuse.S_IFREG | 0o600
	out.Size = uint64(f.u.size)
	out.Blocks, out.Blksize = uint64(f.u.size)/512, 4096
	return 0
}

// Setattr refuses to resize and ignores times: a port has neither.
func (f *port) Setattr(ctx context.Context, h fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if size, ok := in.GetSize(); ok && size != uint64(f.u.size) {
		return syscall.EPERM
	}
	return f.Getattr(ctx, h, out)
}

// Open turns the page cache of the file off: each read of a host asks the switch.
func (f *port) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

// Read copies while the switch cannot move; handing a descriptor to the kernel would read later.
func (f *port) Read(_ context.Context, _ fs.FileHandle, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := f.u.readAt(f.p, dest, off)
	if err != nil {
		return nil, errno(err)
	}
	return fuse.ReadResultData(dest[:n]), 0
}

// Write writes while the switch cannot move.
func (f *port) Write(_ context.Context, _ fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	n, err := f.u.writeAt(f.p, data, off)
	return uint32(n), errno(err)
}

// Fsync makes accepted writes durable.
func (f *port) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	return errno(f.u.sync(f.p))
}

// Flush has nothing to do: nothing is buffered here.
func (f *port) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func errno(err error) syscall.Errno {
	var n syscall.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &n):
		return n
	}
	return syscall.EIO
}

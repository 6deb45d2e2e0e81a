package sdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const epochFile = "epoch.json"

// epochs keeps the newest epoch that was seen for one application, in memory and in the application's work folder, so
// that a plugin that was restarted still refuses a caller that has lost the group. The file is not synced: it must
// survive the plugin, not the power, because after a restart of the server nothing of the old epoch runs.
type epochs struct {
	loaded bool
	newest uint64
}

type epochRecord struct {
	Epoch uint64 `json:"epoch"`
}

func (e *epochs) load(dir string) error {
	if e.loaded {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, epochFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("newest epoch of the application: %w", err)
	}
	var rec epochRecord
	if err == nil {
		if err := json.Unmarshal(b, &rec); err != nil {
			return fmt.Errorf("newest epoch of the application: %s: %w", filepath.Join(dir, epochFile), err)
		}
	}
	e.newest, e.loaded = rec.Epoch, true
	return nil
}

// admit refuses an epoch older than the newest, and records a newer one before anything is done under it. A Kill is
// admitted even where the record cannot be read or written: an application whose storage is gone must not live on for
// a full disk.
func (e *epochs) admit(dir string, epoch uint64, kill bool) error {
	if err := e.load(dir); err != nil && !kill {
		return status.Error(codes.Unavailable, err.Error())
	}
	if err := e.overtaken(epoch); err != nil {
		return err
	}
	if epoch == e.newest {
		return nil
	}
	if err := writeEpoch(dir, epoch); err != nil && !kill {
		return status.Error(codes.Unavailable, err.Error())
	}
	e.newest = epoch
	return nil
}

// overtaken is the refusal of an epoch older than the newest.
func (e *epochs) overtaken(epoch uint64) error {
	if epoch < e.newest {
		return status.Errorf(codes.FailedPrecondition,
			"epoch %d is older than %d, the newest seen for this application: the caller has lost the group", epoch, e.newest)
	}
	return nil
}

func writeEpoch(dir string, epoch uint64) error {
	if dir == "" {
		return errors.New("the core named no work_dir for the application")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("work folder: %w", err)
	}
	b, err := json.Marshal(epochRecord{Epoch: epoch})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, epochFile)
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return fmt.Errorf("record epoch %d: %w", epoch, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("record epoch %d: %w", epoch, err)
	}
	return nil
}

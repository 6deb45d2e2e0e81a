package generic

import (
	"os"
	"os/exec"

	"github.com/orscore/ors/plugins/sdk/supervise"
)

func (c config) limits() limits {
	if len(c.Limits) == 0 {
		return limits{OpenFiles: -1, Processes: -1, CoreMB: -1, MemoryMB: -1, CPUPercent: -1}
	}
	return c.Limits[0]
}

// limit puts the limits and the unit into what is to run.
func (a *application) limit(s *supervise.Spec) {
	l := a.config.limits()
	value := func(n, unit int64) *uint64 {
		if n < 0 {
			return nil
		}
		v := uint64(n) * uint64(unit)
		return &v
	}
	s.Limits = supervise.Limits{
		OpenFiles: value(l.OpenFiles, 1), Processes: value(l.Processes, 1), CoreBytes: value(l.CoreMB, mebibyte),
	}
	if a.config.Systemd != systemdUnit {
		return
	}
	s.Unit = &supervise.Unit{
		Name: supervise.UnitName(a.in.Group, a.in.Name), Description: "ORS application " + s.Name,
		MemoryBytes: max(l.MemoryMB, 0) * mebibyte, CPUPercent: int(max(l.CPUPercent, 0)),
	}
}

func (c config) validateLimits(f *findings) {
	if c.Systemd != systemdNone && c.Systemd != systemdUnit {
		f.add("systemd", `Use "none" or "unit".`, "systemd = %q is unknown", c.Systemd)
	}
	if len(c.Limits) == 0 {
		return
	}
	l := c.limits()
	for _, one := range []struct {
		name  string
		value int64
		least int64
		most  int64
	}{
		{"open_files", l.OpenFiles, 16, 1 << 30}, {"processes", l.Processes, 1, 1 << 22}, {"core_mb", l.CoreMB, 0, 1 << 40},
		{"memory_mb", l.MemoryMB, 1, 1 << 40}, {"cpu_percent", l.CPUPercent, 1, 100_000},
	} {
		if one.value != -1 && (one.value < one.least || one.value > one.most) {
			f.add("limits[0]."+one.name, "Leave it out for what the agent may take.",
				"%d is no limit: it must be %d to %d", one.value, one.least, one.most)
		}
	}
	if l.Processes >= 0 && c.User == "" {
		f.add("limits[0].processes", "Give the program a user of its own, or leave the limit out.",
			"the number of processes is that of a user, and no user is set: root has no such limit")
	}
	if c.Systemd == systemdUnit {
		return
	}
	for _, one := range []struct {
		name  string
		value int64
	}{{"memory_mb", l.MemoryMB}, {"cpu_percent", l.CPUPercent}} {
		if one.value >= 0 {
			f.add("limits[0]."+one.name, `Write systemd = "unit", or leave the limit out.`,
				"%s holds for all processes together, which only a unit of systemd can bound", one.name)
		}
	}
}

// readyLimits says what of the unit and the limits this server cannot do.
func (a *application) readyLimits(f *findings) {
	l := a.config.limits()
	for _, one := range []struct {
		name  string
		value int64
		unit  int64
	}{{"open_files", l.OpenFiles, 1}, {"processes", l.Processes, 1}, {"core_mb", l.CoreMB, mebibyte}} {
		if most := mostAllowed(one.name); one.value >= 0 && uint64(one.value)*uint64(one.unit) > most {
			f.add("limits[0]."+one.name,
				"Write less, or let the agent have more: run it as root; the kernel's own bound of open files is fs.nr_open.",
				"this server's agent can allow no more than %d", most/uint64(one.unit))
		}
	}
	if a.config.Systemd != systemdUnit {
		return
	}
	if !supervise.SystemdRuns() {
		f.warn("systemd", "The program runs without one.",
			"systemd is not process 1 of this server: there is no unit, and no limit of memory or processor time")
		return
	}
	if _, err := exec.LookPath("systemd-run"); err != nil {
		f.add("systemd", "Install it: it is a part of systemd.", "%v", err)
	}
	if os.Geteuid() != 0 {
		f.add("systemd", `Run the agent as root, or write systemd = "none".`,
			"only root can make a unit without being asked for a password")
	}
}

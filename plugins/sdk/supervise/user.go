package supervise

import (
	"fmt"
	"os/user"
	"strconv"
)

// LookupUser finds a user of this server by name or number, with its groups.
func LookupUser(name string) (*User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		byID, ierr := user.LookupId(name)
		if ierr != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		u = byID
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %q has no number: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group of user %q has no number: %w", name, err)
	}
	out := &User{Name: u.Username, Home: u.HomeDir, UID: uint32(uid), GID: uint32(gid)}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("groups of user %q: %w", name, err)
	}
	for _, id := range ids {
		g, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("group %q of user %q: %w", id, name, err)
		}
		out.Groups = append(out.Groups, uint32(g))
	}
	return out, nil
}

func asUser(u *User) string {
	if u == nil {
		return ""
	}
	return " as " + u.Name
}

package codes

// 6000: the state directory.
var statePages = []Page{
	{"ORS-6001", "The state directory is held by another agent",
		"end the other agent, or give this one a state directory of its own",
		"One agent at a time may hold a state directory, and the operating system keeps the lock for as long as its process lives. The " +
			"message names the process. Nothing has to be removed by hand after a crash."},
	{"ORS-6002", "The state directory cannot be used",
		"check path, owner, mode and free space of agent.state_dir",
		"The agent must be able to make, lock and write files there, and takes away the access of others. It does not start without."},
	{"ORS-6003", "The stored state is damaged and cannot be trusted",
		"make sure that the partner is up and that no group runs here, move the damaged files away, and start the agent again",
		"State is kept in two files that are written in turn, each with a checksum. Neither can be believed, or both claim to be the " +
			"newest. The agent does not guess: what it promised to its partner would be lost. Look at the files and at the disk first."},
	{"ORS-6004", "The event journal cannot be written",
		"make room on the filesystem of agent.state_dir, or mend it",
		"A record was not written. Records that wait are lost while this lasts; the journal says how many when it can be written again."},
	{"ORS-6005", "State could not be written",
		"make room on the filesystem of agent.state_dir, or mend it",
		"What was stored before is intact. The agent does nothing that depends on what it could not write."},
	{"ORS-6006", "An application's stored handle is damaged or cannot be read",
		"find out whether the application runs, end it if it does, then remove the file that the text names",
		"The handle is how a plugin finds its running application again. Without it the application may run unseen, so it counts as unknown " +
			"and is not started a second time."},
	{"ORS-6007", "One of two state files was damaged",
		"check the disk of agent.state_dir",
		"The other file was used, which holds the state before the last change at worst. The partner and the switch are asked before it is " +
			"believed, as always. The damaged file is replaced with the next change."},
	{"ORS-6008", "Part of the event journal was damaged",
		"check the disk if the damage is not at the journal's end",
		"After a power loss the last records may be written in part; they are cut off. Damage in the middle is passed over, and the records " +
			"behind it are kept. The journal is for people: nothing is decided by it."},
	{"ORS-6009", "Records of the event journal were lost",
		"see the text for the reason, most often a full or slow disk",
		"More happened than the disk could take, or it could not be written. The record tells how many are missing here."},
	{"ORS-6010", "The event journal cannot be read",
		"check owner, mode and disk of agent.state_dir",
		"The files are there, and the operating system refuses to read them."},
}

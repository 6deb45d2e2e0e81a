package codes

// 1000: the agent and its decisions. 3000: the interconnect. 13000: alarms that the white paper names.
var agentPages = []Page{
	{"ORS-1001", "A storage unit's switch does not answer",
		"check the switch's power, its cable or socket, and the endpoint in the configuration",
		"The agent could not read who owns the unit. Unknown is not lost: what runs goes on as long as its disk answers, nothing new " +
			"is claimed, and the switch is asked again and again. The alarm ends with the first answer."},
	{"ORS-1002", "This server itself was late",
		"find what starves or pauses this server: a suspended virtual machine, a stopped process, or too little CPU",
		"The agent did not run for longer than the interconnect's time-out allows, so silence in that time proves nothing about the " +
			"partner. It has forgotten its verdict, reads ownership from the switch anew, and counts silence from zero."},
	{"ORS-1003", "A group goes on without an answer of its switch",
		"restore the switch; nothing else is needed",
		"The agent was started while the switch did not answer. The group's mounted disk still does its I/O, which a unit that is " +
			"connected elsewhere would refuse, so its applications are kept running under this server."},
	{"ORS-1004", "A group is ended because nothing proves that its storage is here",
		"restore the switch; the group starts again where the switch shows it",
		"Neither the switch nor the disk answers, or a release was under way. An application that writes to storage which may belong " +
			"to the partner would be worse than an outage, so what is left of the group on this server is killed."},
	{"ORS-1005", "A claim was refused",
		"look at `orscore events` of both servers; usually the partner owns the group now and nothing is to be done",
		"The switch changes a unit's key only if nobody has changed it since it was read. Somebody had, so this server holds nothing " +
			"and reads the key again."},
	{"ORS-1006", "A claim was not answered in time",
		"wait for the switch to answer; if it does not, see ORS-1001",
		"Whether the switch has granted the claim is not known, and a missing answer is never taken for a grant. The group stays " +
			"down on this server until the switch says who owns it."},
	{"ORS-1007", "A group's drives could not be mounted",
		"read the reason in `orscore status`, mend the volume, then `orscore clear GROUP`",
		"At least one drive of the group could not be mounted in time on this server. The others were unmounted again and the storage " +
			"was given up, so that the partner may try; this server tries again later by itself."},
	{"ORS-1008", "An application failed and is restarted in place",
		"read the application's log if it happens again",
		"A failed start or failed checks cost a restart on the same server first, up to the group's restart_limit. After restart_reset " +
			"without a failure the count begins anew."},
	{"ORS-1009", "A group is given away because restarts did not help",
		"mend the application on this server before the group is brought back",
		"The group's restart_limit is used up and the partner is there, so the group is stopped here and offered to the partner."},
	{"ORS-1010", "Restarts did not help and there is no partner to go to",
		"mend the application, or bring the partner back",
		"The group's restart_limit is used up, but no partner can take it. It is tried again here, since this server is the only one left."},
	{"ORS-1011", "A group's applications were not up in time",
		"read the application's log; raise its start_timeout if it only needs longer",
		"What was started is stopped again, the drives are unmounted and the storage is given up, so that the partner may try."},
	{"ORS-1012", "An application would not stop",
		"end it by hand, then `orscore clear GROUP`",
		"An application of the group did not stop, also not when it was killed, within its stop_timeout. Storage is never given away " +
			"under a live application, so the group stays faulted on this server and keeps its units."},
	{"ORS-1013", "A drive would not unmount",
		"end the processes that use it (the event lists them), then `orscore clear GROUP`",
		"Something still uses a volume of the group. Storage in use is never given away, so the group stays faulted on this server " +
			"and keeps its units."},
	{"ORS-1014", "A release was not confirmed",
		"wait for the switch to answer; if it does not, see ORS-1001",
		"The switch was asked to disconnect the group's units and gave no answer. The release may still happen, so nothing of the group " +
			"is started here until the switch has said who owns them."},
	{"ORS-1015", "The storage is no longer with this server",
		"look at `orscore events` of the partner for the reason",
		"The switch shows that another server, or nobody, owns units which this server held. A clean stop is not possible any more " +
			"because the storage refuses I/O; what is left of the group here is killed and its drives are detached."},
	{"ORS-1016", "The partner holds the group under a newer epoch",
		"look at `orscore events` of the partner for the reason",
		"The switch did not answer, but the partner's beats prove that it was granted the group's units after this server. What is " +
			"left of the group here is killed."},
	{"ORS-1017", "Something of a group is still here and should not be",
		"end the process or unmount the volume that the text names; restart this server if it cannot be ended",
		"The group is not this server's, yet a process or mount of it is left. The agent kills and unmounts again and again, and claims " +
			"nothing for this group before it is clean."},
	{"ORS-1020", "A planned move was refused",
		"do what the text says, then ask again",
		"The move could not begin, and nothing was changed: the group runs where it ran. Reasons are that the group is not where it was " +
			"thought to be, that another move of it is under way, or that it is unknown to the server that was asked."},
	{"ORS-1021", "A planned move ended without moving the group",
		"read the reason in the move's last step; the group runs where it ran before",
		"The partner was not ready, would not or could not bring the group up, or did not answer in time. The group came back to the " +
			"server that gave it, which is started again there. A move leaves no rule behind: it can simply be asked again."},
	{"ORS-1022", "There is no group of that name",
		"use a name that `orscore status` shows",
		"The name is compared exactly, in upper and lower case, with the group blocks of the configuration that the agent runs with."},
	{"ORS-1023", "A move was refused because the group's owner is not known",
		"wait until `orscore status` shows an owner, or mend the switch",
		"Only the server that owns a group can give it away. Nobody owns it now, or the switch does not answer. Nothing was changed."},
	{"ORS-1024", "A move was refused because the servers have not agreed yet",
		"wait until both agents are up and `orscore status` no longer says \"not agreed\", then ask again",
		"After a loss, both servers first make sure that no claim of that time is still on its way: owners renew their keys and both " +
			"promise the next round. Planned moves wait for that. Nothing was changed."},
	{"ORS-1025", "The end of a move was not seen",
		"look at `orscore status` and `orscore events`",
		"The server that carries the move out stopped answering before it told the end. The move may have been completed, or the group " +
			"may have come back: status shows where it is."},
	{"ORS-1026", "Not all groups have stopped",
		"see in `orscore status` what does not stop, end it by hand, then `orscore shutdown` again",
		"An orderly shutdown ends only after every application of this server is stopped and every drive unmounted. Something was " +
			"left when time was up, so the agent goes on and keeps its storage."},
	{"ORS-1027", "The drive is not mounted on this server",
		"name a drive that `orscore status` shows on this server, or run the command on the other one",
		"A map file is written into the root of a mounted volume. On this server no volume is mounted under that letter; in the words of " +
			"the white paper: no drive letters connected to primary controller."},
	{"ORS-1028", "There is no server of that name",
		"use one of the two names that `orscore status` shows",
		"The name is compared exactly, in upper and lower case, with the server blocks of the configuration that the agent runs with."},
	{"ORS-1030", "The state directory cannot be written",
		"make room on its filesystem, or mend it; the agent goes on by itself",
		"Promises to the partner and epochs must be on the disk before they are acted upon. While they cannot be written, what runs goes " +
			"on, but nothing is claimed, started or moved. The alarm ends with the first write that succeeds."},
	{"ORS-1031", "An application's work folder cannot be made",
		"check the owner, mode and free space of agent.run_dir and agent.log_dir",
		"Every application gets a folder of its own for its plugin to work in. Without it the application is not started, and its " +
			"group is treated as one that failed to start."},
	{"ORS-1032", "The boot id of this server cannot be read",
		"make /proc/sys/kernel/random/boot_id readable for the agent",
		"The partner tells a restarted server from a silent one by the boot id, which the operating system makes anew at each start. The " +
			"agent does not run without it."},
	{"ORS-1033", "The run folder cannot be made",
		"check the path in agent.run_dir and the rights of the folder above it",
		"The control socket and the work folders of plugins live there. The agent does not start without it."},
	{"ORS-1034", "A folder of the agent cannot be written",
		"make the folder, or run as the user that the agent runs as",
		"The check tried to make a file in the folder, or in the nearest one above it that exists, and could not. The agent would fail " +
			"there, too."},
	{"ORS-1040", "The partner is lost",
		"power the partner on or mend it; when it is back, `orscore failback`",
		"No beat came on any link for the interconnect's time-out, and nothing speaks for a cable fault or for this server being cut " +
			"off. This server takes over what it wins at the switch. The verdict's evidence is in the event."},
	{"ORS-1041", "This server is cut off",
		"mend this server's network and the interconnect",
		"No beat comes on any link, and the targets of the network_check do not answer either, so the fault is more likely here. This " +
			"server keeps what it owns and takes nothing over."},
	{"ORS-1042", "A group is blocked",
		"do what the group's next step in `orscore status` says, then `orscore clear GROUP`",
		"The group cannot run on this server for the reason that its status gives, such as a unit that cannot be claimed or a volume " +
			"that cannot be mounted. Other groups are not affected. It is tried again by itself after a while."},
	{"ORS-1043", "The two configuration files differ",
		"make the files equal and restart the agent that has the older one",
		"Beats carry a digest of the configuration. Two agents that follow different rules may both be right and still do harm, so a " +
			"difference is an alarm for as long as it lasts."},

	{"ORS-3001", "A frame of the interconnect was refused",
		"compare the key files of both servers; if they are equal, look for noise on the line or a foreign pair on the network",
		"A frame came that does not prove the pair's key, was sent before, or is this server's own. It is counted and never acted upon. " +
			"One at a time is harmless; many say that the keys differ or that a cable loops back."},

	{"ORS-13004", "Cable fault: a link is silent while the partner lives",
		"check that link's cable, port and device on both servers; nothing moves because of it",
		"Beats are missing on this link, or its device cannot be opened, while the partner is heard on another one or the fault is on " +
			"this server's side. As in the white paper, a cable fault is told apart from a failed server, recorded and alarmed, and " +
			"causes no switchover. With the last link gone the next fault is a loss, so mend it soon."},
}

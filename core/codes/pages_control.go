package codes

// 7000: the control API and the commands.
var controlPages = []Page{
	{"ORS-7001", "No recovery agent answers",
		"start it with `systemctl start ors` or `orscore agent`, or name its socket with --socket",
		"Nobody listens at the control socket: no agent runs on this server, or it runs with another run_dir. Applications may run all the " +
			"same, since they outlive their agent."},
	{"ORS-7002", "You may not do this",
		"use sudo, or ask as a member of the operators' group for what only looks",
		"The kernel tells the agent who is asking. Root and the agent's own user may do everything; members of the group that the agent " +
			"was given may look (status, events), and nobody else may do anything."},
	{"ORS-7003", "Another agent answers at the control socket",
		"end the other agent, or give this one a run_dir of its own",
		"A control socket is removed only when it is certain that nobody answers there."},
	{"ORS-7004", "The agent stopped answering",
		"look with `orscore status` whether it is back, and at its log",
		"The agent ended, was restarted, or hangs. What it was asked may have been done."},
	{"ORS-7005", "The control socket cannot be opened",
		"check the path in agent.run_dir and what stands there",
		"Without its socket an agent could not be asked anything. The path may be too long for a socket, or something else is in its place."},
	{"ORS-7006", "The agent's answer cannot be read",
		"use an orscore of the same version as the agent",
		"Client and agent do not understand each other."},
	{"ORS-7007", "Where the agent listens is not known",
		"give the configuration with --config, or the socket with --socket",
		"The socket is in agent.run_dir, which is read from the configuration, and that could not be read."},
	{"ORS-7008", "The command line is not right",
		"see `orscore COMMAND --help`",
		"Nothing was done."},
	{"ORS-7009", "Left before the end",
		"follow it with `orscore events --follow`",
		"The command was ended from outside, with ^C for example. What the agent has begun it finishes: a half-done move would be worse."},
}

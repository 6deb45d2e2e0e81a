package codes

// 5000: plugins and applications.
var pluginPages = []Page{
	{"ORS-5000", "A plugin does not serve its applications",
		"read its reason in `orscore status` and its log in agent.log_dir",
		"Groups with applications of this kind cannot be started on this server; what runs goes on, and other groups are not affected. " +
			"The plugin is started again with growing pauses."},
	{"ORS-5001", "There is no such plugin program",
		"install ors-plugin-KIND into agent.plugin_dir, or correct the application's kind",
		"Plugins are programs of that name in that folder."},
	{"ORS-5002", "A plugin died, hung or said nonsense at its start",
		"run `ors-plugin-KIND` by hand and read its log in agent.log_dir",
		"A plugin must say its handshake within a few seconds. It is started again until its restart budget is used up."},
	{"ORS-5003", "A plugin program could be replaced by others",
		"chown root and chmod go-w the program and its folder",
		"A program that others may write is not run: it would be run with the agent's rights."},
	{"ORS-5004", "A plugin has another version than is asked for",
		"install a version that satisfies the constraint in its plugin block, or change the constraint",
		"A plugin of another version is not used."},
	{"ORS-5005", "A plugin's hash is not the pinned one",
		"install the right file, or pin the new hash after you have made sure of it",
		"A plugin whose SHA-256 sum differs from sha256 in its plugin block never runs."},
	{"ORS-5006", "A plugin died too often",
		"read its log in agent.log_dir, mend it, then restart the agent",
		"The restart budget is used up: starting it again at once would do the same. Applications go on without it."},
	{"ORS-5007", "A plugin program serves another kind",
		"install the right program under this name",
		"The program says that it is for another kind of application than its file name does."},
	{"ORS-5008", "A call to a plugin failed",
		"read the plugin's log in agent.log_dir",
		"The plugin answered with an error, or ended during the call. Whether the application runs is then asked again before anything " +
			"depends on it."},
	{"ORS-5009", "A plugin did not answer in time",
		"read the plugin's log in agent.log_dir",
		"The plugin hangs. It is killed and started again; its applications are no children of it and go on. A missing answer is never " +
			"taken for \"stopped\"."},
	{"ORS-5010", "The plugin host is closed",
		"nothing, if the agent is being ended",
		"A call came while the agent ends."},
}

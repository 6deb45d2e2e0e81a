# The pair of the white paper's lab: the servers Rocky and Apollo, a serial cable between them, and two storage units that
# can be switched. Each server is at work, and each is the other's recovery server.
#
# The same file is on both servers. Which server one is follows from the host name, or from --server. The agents tell each
# other the digest of their files; a difference raises an alarm. `orscore check` reports every mistake with its line.
#
# What is commented out shows a default. Times are "200ms", "2s", "10m"; ${self} is the name of the server that reads the file.

pair "cpqlab" {
  # mode        = "online"                        # both servers are at work
  # on_shutdown = "stay"                          # an orderly shutdown is no failure: nothing moves. Or "switchover"
}

server "rocky" {}                                 # names are the host names, with or without their domain
server "apollo" {}

agent {
  # state_dir  = "/var/lib/ors"                   # what must survive a restart; on a local disk, never on a switched one
  # run_dir    = "/run/ors"                       # control socket, sockets of plugins
  # log_dir    = "/var/log/ors"                   # output of plugins and applications
  # plugin_dir = "/usr/lib/ors/plugins"           # programs ors-plugin-KIND; nobody but root may write here
  # drive_root = "/ors"                           # drive E: is mounted at /ors/E
  # realtime   = true                             # beats ask for real-time priority and locked memory

  # Commands before the first beat, as the paper's CPQRSYS.CMD.
  # autostart { command = ["/usr/local/sbin/before-ors", "${self}"] }

  # Reboots a server that holds groups and whose agent is silent.
  # watchdog { device = "/dev/watchdog0" }
}

# How the two agents hear of each other. A partner is lost when it is silent on all links for `timeout`.
interconnect {
  interval = "200ms"                              # between beats: 20ms to 60s
  timeout  = "2s"                                 # at least three intervals
  # startup_timeout = "90s"                       # at startup, take over from a partner that never came. Left out: wait for ever
  key_file = "/etc/ors/interconnect.key"          # `orscore key generate` makes one; copy it to the other server, mode 0600

  # The null-modem cable. At most half of the line may be beats: at 200ms, 9600 baud are enough.
  serial "cable" {
    baud   = 115200
    device = { rocky = "/dev/serial/by-id/usb-FTDI_FT232R_A6008isP-if00-port0", apollo = "/dev/ttyS0" }
  }

  # A network of its own. Never an address that a group moves: it would leave with the group.
  udp "lan" {
    address = { rocky = "10.36.0.1:7711", apollo = "10.36.0.2:7711" }
  }
}

# When both servers live and all links are cut, the switches decide who goes on.
arbitration {
  survivor = "rocky"                              # goes first when each server owns something
  # delay  = "200ms"                              # head start of the survivor; default: two intervals
}

# While none of these answers, this server takes itself for the isolated one and takes nothing over.
network_check {
  targets = ["172.25.36.1"]                       # by ping; "arp:…", "host:port": ARP, TCP
  # timeout = "1s"
}

# Which programs may run as plugins. Without a block any installed one runs, with a warning.
plugin "generic" {
  version = ">= 0.1"
  # sha256  = "…"                                 # pin: `sha256sum /usr/lib/ors/plugins/ors-plugin-generic`
  # isolate = false                               # true: a process for each application instead of one for all
}

plugin "ipset" {
  version = ">= 0.1"
}

# A group is what moves together. Its units, addresses and applications are on one server at a time.
group "rocky" {
  primary  = "rocky"                              # at home here
  failback = "manual"                             # `orscore failback rocky` brings it home
  # restart_limit = 2                             # failed applications are restarted in place so often, then the group moves
  # restart_reset = "10m"                         # after so long without a failure the count begins again

  # A switch connects the unit to one server; only that one can mount its drives.
  storage "storage2" {
    switch "rsw" {
      endpoint = "serial:/dev/ttyS1?baud=19200"   # or "unix:/path", "tcp:host:port"
      unit     = "storage2"                       # name at the switch; default: the name of the storage block
      # timeout = "2s"
    }

    # Letters differ on both servers: one day one server has all drives.
    drive "E:" {
      volume     = "LABEL=rocky_e"                # or "UUID=…", or a path below /dev/disk/by-id
      filesystem = "ext4"
      options    = ["noatime"]
      # fsck          = "auto"                    # a journal is replayed by the mount. Or "always", "never"
      # mount_timeout = "30s"
    }
  }

  # The group's address. Apollo's adapter has a dummy address of the same network, which is replaced while the group is
  # there and restored when it leaves.
  application "ipset" "address" {
    config {
      address  = "172.25.36.45/24"
      replaces = "172.25.36.48"
    }
  }

  application "generic" "postgres" {
    after         = ["address"]                   # is started after these, and stopped before them
    start_timeout = "2m"                          # with the replay of its log after a power failure
    stop_timeout  = "1m"

    probe {
      interval = "5s"
      timeout  = "5s"
      fall     = 3                                # failures in a row that count as a failure
    }

    # The plugin's own settings, checked with the schema that the plugin declares. A drive is drive["E:"], or d1 … dn by
    # place; its path and letter are those that it has on the server at the time.
    config {
      command = [
        "/usr/lib/postgresql/15/bin/postgres",
        "-D", "${drive["E:"].path}/postgresql/data",
        "-h", "172.25.36.45",
        "-k", "${drive["E:"].path}/postgresql/run",
      ]
      user              = "postgres"
      working_directory = "${drive["E:"].path}/postgresql"

      # The file names a process of the server that has failed; here that number may be somebody else's.
      before_start {
        command = ["rm", "-f", "${drive["E:"].path}/postgresql/data/postmaster.pid"]
      }

      check "command" {
        command = ["/usr/lib/postgresql/15/bin/pg_isready", "-q", "-h", "172.25.36.45"]
      }

      stop {
        signal     = "SIGINT"                     # PostgreSQL's fast shutdown
        kill_after = "30s"
      }
    }
  }
}

group "apollo" {
  primary  = "apollo"
  failback = "manual"

  storage "storage1" {
    switch "rsw" {
      endpoint = "serial:/dev/ttyS1?baud=19200"   # the same enclosure; another unit of it
      unit     = "storage1"
    }

    drive "F:" {
      volume     = "LABEL=apollo_f"
      filesystem = "ext4"
      options    = ["noatime"]
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.46/24"
    }
  }

  application "generic" "nginx" {
    after = ["address"]

    config {
      command = ["/usr/sbin/nginx", "-c", "${drive["F:"].path}/nginx/nginx.conf", "-g", "daemon off;"]

      check "http" {
        url = "http://172.25.36.46/"
      }

      stop {
        signal = "SIGQUIT"                        # nginx ends when the requests under way are answered
      }
    }
  }
}

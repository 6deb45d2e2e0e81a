# Each server has a program of its own, and beside it three that are no plugins and are told of groups.

pair "cpqlab" {}

server "rocky" {}
server "apollo" {}

agent {
  plugin_dir = "/opt/ors/bin"

  # As the white paper's CPQRSYS.CMD: it starts CPQRSGL, and what else waits for a switchover.
  autostart {
    once_per_boot = true
    command = [
      "/bin/sh", "-c",
      "orscore launch --keep /opt/ors/bin/notify/rcvrnts.sh >>/var/log/rcvrnts.log 2>&1 </dev/null &",
    ]
  }

  autostart {
    once_per_boot = true
    command       = ["/bin/sh", "-c", "/opt/ors/bin/notify/notified.sh /run/notified.sh >/var/log/notified.sh.log 2>&1 </dev/null &"]
  }

  autostart {
    once_per_boot = true
    command       = ["/bin/sh", "-c", "/opt/ors/bin/notify/notified >/var/log/notified.log 2>&1 </dev/null &"]
  }
}

interconnect {
  interval = "100ms"
  timeout  = "1s"
  key_file = "/etc/ors/interconnect.key"

  serial "cable" {
    baud   = 115200
    device = { rocky = "/dev/ors/cable", apollo = "/dev/ors/cable" }
  }

  udp "lan" {
    address = { rocky = "10.36.0.1:7711", apollo = "10.36.0.2:7711" }
  }
}

arbitration {
  survivor = "apollo"
}

network_check {
  targets = ["172.25.36.10"]
}

plugin "generic" {
  version = ">= 0.1"
}

plugin "ipset" {
  version = ">= 0.1"
}

group "rocky" {
  primary = "rocky"

  storage "storage2" {
    switch "rsw" {
      endpoint = "unix:/run/ors-enclosure/rsw.sock"
    }

    drive "E:" {
      volume     = "/dev/ors/storage2"
      filesystem = "ext4"
      options    = ["noatime"]
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.45/24"
    }
  }

  application "generic" "files" {
    after = ["address"]

    config {
      command = [
        "/usr/bin/python3", "-m", "http.server", "--bind", "172.25.36.45",
        "--directory", "${drive["E:"].path}/files", "8080",
      ]

      check "tcp" {
        address = "172.25.36.45:8080"
      }
    }
  }
}

group "apollo" {
  primary = "apollo"

  storage "storage1" {
    switch "rsw" {
      endpoint = "unix:/run/ors-enclosure/rsw.sock"
    }

    drive "F:" {
      volume     = "/dev/ors/storage1"
      filesystem = "ext4"
      options    = ["noatime"]
    }
  }

  application "ipset" "address" {
    config {
      address = "172.25.36.46/24"
    }
  }

  application "generic" "files" {
    after = ["address"]

    config {
      command = [
        "/usr/bin/python3", "-m", "http.server", "--bind", "172.25.36.46",
        "--directory", "${drive["F:"].path}/files", "8080",
      ]

      check "tcp" {
        address = "172.25.36.46:8080"
      }
    }
  }
}

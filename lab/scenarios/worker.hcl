# Each server has a program that the example plugin in Python protects.

pair "cpqlab" {}

server "rocky" {}
server "apollo" {}

agent {
  plugin_dir = "/opt/ors/bin"
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

plugin "worker" {
  version = ">= 1.0"
}

plugin "ipset" {
  version = ">= 0.1"
}

plugin "generic" {
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

  application "worker" "files" {
    after = ["address"]

    probe {
      interval = "500ms"
    }

    config {
      command = [
        "/usr/bin/python3", "-m", "http.server", "--bind", "172.25.36.45",
        "--directory", "${drive["E:"].path}/files", "8080",
      ]
      check = "172.25.36.45:8080"
    }
  }

  # A batch run: once each time the group comes to a server, and not again when another application is restarted in place.
  application "generic" "report" {
    after = ["files"]

    probe {
      interval = "500ms"
    }

    config {
      command = ["/bin/sh", "-c", "echo $ORS_EVENT from $ORS_FROM >>$ORS_DRIVE_E/reports"]
      mode    = "batch"
    }
  }

  application "generic" "clock" {
    probe {
      interval = "500ms"
    }

    config {
      command = ["/bin/sh", "-c", "while :; do date >$ORS_DRIVE_E/clock; sleep 0.2; done"]
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

  application "worker" "files" {
    after = ["address"]

    probe {
      interval = "500ms"
    }

    config {
      command = [
        "/usr/bin/python3", "-m", "http.server", "--bind", "172.25.36.46",
        "--directory", "${drive["F:"].path}/files", "8080",
      ]
      check = "172.25.36.46:8080"
    }
  }
}

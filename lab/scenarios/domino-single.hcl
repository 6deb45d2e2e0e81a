# The paper's Section I: one Notes server on Rocky, another application on Apollo (Tables 4 to 6).

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

plugin "generic" {
  version = ">= 0.1"
}

plugin "domino" {
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
      address  = "172.25.36.45/24"
      replaces = "172.25.36.48"
    }
  }

  application "domino" "notes" {
    after = ["address"]

    probe {
      interval = "1s"
      timeout  = "1s"
    }

    config {
      program = "${drive["E:"].path}/notes/server"
      release = "4.5"

      partition "CN=Rocky/OU=Servers/O=Cpqlab" {
        data    = "${drive["E:"].path}/notes/data"
        address = "172.25.36.45"
        user    = "notes3"
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

  application "generic" "nginx" {
    after = ["address"]

    config {
      command = [
        "/usr/sbin/nginx", "-p", "${drive["F:"].path}/nginx/", "-e", "/var/log/nginx-error.log", "-c", "nginx.conf",
        "-g", "daemon off;",
      ]

      check "http" {
        url = "http://172.25.36.46/"
      }

      stop {
        signal = "SIGQUIT"
      }
    }
  }
}

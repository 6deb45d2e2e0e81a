// Command app is a small program to be protected in tests.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "", "serve HTTP here")
	delay := flag.Duration("delay", 0, "before serving")
	stubborn := flag.Bool("stubborn", false, "do not heed SIGTERM")
	child := flag.Bool("child", false, "start a process that goes on when this one ends")
	detach := flag.Bool("detach", false, "start this program again, detached, and end")
	code := flag.Int("exit", -1, "end at once with this exit code")
	say := flag.String("say", "", "print this")
	flag.Parse()
	if *say != "" {
		fmt.Println(*say)
	}
	if *code >= 0 {
		os.Exit(*code)
	}
	if *stubborn {
		signal.Ignore(syscall.SIGTERM)
	}
	if *child {
		run("-listen", "", "-stubborn")
	}
	if *detach {
		run("-listen", *listen)
		return
	}
	time.Sleep(*delay)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "well") })
	http.HandleFunc("/ill", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "ill", http.StatusServiceUnavailable)
	})
	http.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if *listen != "" {
		fmt.Fprintln(os.Stderr, http.ListenAndServe(*listen, nil))
		os.Exit(1)
	}
	time.Sleep(time.Hour)
}

func run(args ...string) {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

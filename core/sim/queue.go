package sim

import "time"

// what a happening is about. Those that come often carry no closure.
type what uint8

const (
	call   what = iota // f
	wake               // the node of server may have something to do
	beat               // a link of server is due
	frame              // packet arrives at server
	land               // command reaches its switch
	answer             // command's answer reaches its agent
	write              // an application of server writes
)

type happening struct {
	at     time.Duration
	seq    uint64
	what   what
	server uint8
	link   uint8 // of beat; group of write
	gen    int32
	packet *packet
	cmd    *command
	f      func()
}

// queue is a heap of happenings by time, and by age where times are equal.
type queue struct {
	h   []happening
	seq uint64
}

func (q *queue) less(i, j int) bool {
	a, b := &q.h[i], &q.h[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}

func (q *queue) push(h happening) {
	q.seq++
	h.seq = q.seq
	q.h = append(q.h, h)
	for i := len(q.h) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.less(i, up) {
			break
		}
		q.h[i], q.h[up] = q.h[up], q.h[i]
		i = up
	}
}

func (q *queue) pop() happening {
	top := q.h[0]
	last := len(q.h) - 1
	q.h[0] = q.h[last]
	q.h[last] = happening{}
	q.h = q.h[:last]
	for i := 0; ; {
		down := 2*i + 1
		if down >= last {
			break
		}
		if down+1 < last && q.less(down+1, down) {
			down++
		}
		if !q.less(down, i) {
			break
		}
		q.h[i], q.h[down] = q.h[down], q.h[i]
		i = down
	}
	return top
}

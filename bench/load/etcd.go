package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

// Methods and field numbers of etcd's rpc.proto and kv.proto.
const (
	etcdWatch   = "/etcdserverpb.Watch/Watch"
	etcdPut     = "/etcdserverpb.KV/Put"
	etcdTxn     = "/etcdserverpb.KV/Txn"
	createWatch = 1
	key         = 1
	rangeEnd    = 2
	created     = 3
	events      = 11
	eventKV     = 2
	kvValue     = 5
	putKey      = 1
	putValue    = 2
	txnSuccess  = 2
	requestPut  = 2
	txnOpsMax   = 128 // --max-txn-ops
	underWay    = 128 // writes that may be unanswered
	writerTick  = 5 * time.Millisecond
	numberBytes = 5 // of each of the two numbers of the observe time in a value
)

// wayToTime leads from a value, a change as it is sent to watchers, to its observe time.
var wayToTime = []protowire.Number{changes, status, observeTime}

// etcd watches every key of the prefix, a stream for each watcher as separate clients have.
type etcd struct{}

func (etcd) watch(ctx context.Context, client *grpc.ClientConn, number int, total *counters) {
	whole := bytesField(bytesField(nil, key, []byte("a")), rangeEnd, []byte("b"))
	told := dialect{method: etcdWatch, both: true, synced: created, change: events}
	told.at = append([]protowire.Number{eventKV, kvValue}, wayToTime...)
	told.watch(ctx, client, bytesField(nil, createWatch, whole), number, total)
}

// writer changes one key after another at a rate, as far as etcd takes it: no more than underWay writes at a time.
type writer struct {
	client   *grpc.ClientConn
	rate     float64
	keys     int
	together bool
	template []byte
	written  atomic.Int64
	turn     int
}

func (w *writer) run(ctx context.Context) {
	slots := make(chan struct{}, underWay)
	began := time.Now()
	for ctx.Err() == nil {
		time.Sleep(writerTick)
		for due := int(time.Since(began).Seconds() * w.rate); w.turn < due; {
			n := 1
			if w.together {
				n = min(due-w.turn, txnOpsMax, w.keys)
			}
			slots <- struct{}{}
			method, request := w.request(n)
			go func() {
				var reply []byte
				if w.client.Invoke(ctx, method, &request, &reply) == nil {
					w.written.Add(int64(n))
				}
				<-slots
			}()
		}
	}
}

// request writes the next n keys, each with the moment of now in its value.
func (w *writer) request(n int) (method string, request []byte) {
	if !w.together {
		return etcdPut, w.put()
	}
	for range n {
		request = bytesField(request, txnSuccess, bytesField(nil, requestPut, w.put()))
	}
	return etcdTxn, request
}

func (w *writer) put() []byte {
	name := fmt.Sprintf("asset-%06d", w.turn%w.keys)
	w.turn++
	return bytesField(bytesField(nil, putKey, []byte(name)), putValue, timed(w.template, time.Now()))
}

// timed returns a copy of a change as it is sent whose observe time, of two numbers of so many bytes, is that moment.
func timed(value []byte, at time.Time) []byte {
	copied := bytes.Clone(value)
	stamp := find(copied, wayToTime...)
	if len(stamp) != 2+2*numberBytes {
		log.Fatalf("the observe time of the value has %d bytes", len(stamp))
	}
	pad(stamp[1:1+numberBytes], uint64(at.Unix()))
	pad(stamp[2+numberBytes:], uint64(at.Nanosecond()))
	return copied
}

// pad writes a varint over all of the bytes.
func pad(into []byte, value uint64) {
	for i := range into {
		into[i] = byte(value>>(7*i))&0x7f | 0x80
	}
	into[len(into)-1] &= 0x7f
}

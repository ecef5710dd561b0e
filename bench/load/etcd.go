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
	etcdWatch    = "/etcdserverpb.Watch/Watch"
	etcdPut      = "/etcdserverpb.KV/Put"
	etcdTxn      = "/etcdserverpb.KV/Txn"
	createWatch  = 1
	key          = 1
	rangeEnd     = 2
	created      = 3
	events       = 11
	eventKV      = 2
	kvValue      = 5
	putKey       = 1
	putValue     = 2
	txnSuccess   = 2
	requestPut   = 2
	txnOpsMax    = 128 // --max-txn-ops
	underWay     = 128 // writes that may be unanswered
	writerTick   = 5 * time.Millisecond
	stampVarints = 5 // bytes of each of the two numbers of a time, padded
)

// etcd watches every key of the prefix, a stream for each watcher as separate clients have.
type etcd struct{}

func (etcd) watch(context context.Context, client *grpc.ClientConn, number int, total *counters) {
	stream, err := client.NewStream(context, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, etcdWatch)
	whole := bytesField(bytesField(nil, key, []byte("a")), rangeEnd, []byte("b"))
	request := bytesField(nil, createWatch, whole)
	if err != nil || stream.SendMsg(&request) != nil {
		total.failed.Add(1)
		return
	}
	var ages []float64
	for first := true; ; first = false {
		var message []byte
		if stream.RecvMsg(&message) != nil {
			total.failed.Add(1)
			return
		}
		if first {
			total.open.Add(1)
			total.synced.Add(1)
		}
		sampled := number%sampleEvery == 0 && total.measuring.Load()
		ages = readEvents(message, sampled, total, ages[:0])
		if sampled {
			total.keep(ages)
		}
	}
}

func readEvents(message []byte, sampled bool, total *counters, ages []float64) []float64 {
	now, n := time.Now(), 0
	for rest := message; len(rest) > 0; {
		var number protowire.Number
		var value []byte
		number, value, rest = field(rest)
		if number != events {
			continue
		}
		n++
		if sampled {
			ages = append(ages, float64(now.Sub(stamped(find(find(value, eventKV), kvValue), observeTime)).Microseconds())/1000)
		}
	}
	total.took(message, n)
	return ages
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

func (w *writer) run(context context.Context) {
	slots := make(chan struct{}, underWay)
	began := time.Now()
	for context.Err() == nil {
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
				if w.client.Invoke(context, method, &request, &reply) == nil {
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

// timed returns a copy of an encoded change whose observe time, of two padded numbers, is that moment.
func timed(change []byte, at time.Time) []byte {
	copied := bytes.Clone(change)
	stamp := find(find(copied, status), observeTime)
	if len(stamp) != 2+2*stampVarints {
		log.Fatalf("the observe time of the value has %d bytes", len(stamp))
	}
	pad(stamp[1:1+stampVarints], uint64(at.Unix()))
	pad(stamp[2+stampVarints:], uint64(at.Nanosecond()))
	return copied
}

func pad(into []byte, value uint64) {
	for i := range into {
		into[i] = byte(value>>(7*i))&0x7f | 0x80
	}
	into[len(into)-1] &= 0x7f
}

func bytesField(message []byte, number protowire.Number, value []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(message, number, protowire.BytesType), value)
}

// Serves the function's handler over the guest protocol: guest/shims/README.md. It is compiled together with the
// function's source, in the same package, so every name of it begins with impuls.

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	impulsInvoke = 2
	impulsReady  = 64
	impulsResult = 67
	impulsError  = 68

	impulsHead        = 5
	impulsMaxFrame    = 8 << 20
	impulsResultLimit = 6 << 20
	impulsTextLimit   = 65536
	// Most bytes of a buffer that is kept for the next frames.
	impulsKept = 64 << 10
)

// FunctionContext is what a handler learns of its call with FromContext.
type FunctionContext struct {
	RequestID       string
	FunctionName    string
	FunctionVersion string
	MemoryLimitMB   string
}

type impulsContextKey struct{}

// FromContext finds what a context that was given to a handler says about the call.
func FromContext(ctx context.Context) (FunctionContext, bool) {
	found, ok := ctx.Value(impulsContextKey{}).(FunctionContext)
	return found, ok
}

func main() {
	handler, err := impulsCallable(impulsHandler)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// How many calls the host makes at once.
	var slots [4]byte
	if _, err := io.ReadFull(os.Stdin, slots[:]); err != nil {
		os.Exit(1)
	}
	isAlone := binary.LittleEndian.Uint32(slots[:]) == 1
	// Whoever started this waits for one byte: everything from here on is served.
	if _, err := os.Stdin.Write([]byte{1}); err != nil {
		os.Exit(1)
	}
	os.Stdin.Close()
	// Takes the number 0 again, which nothing else shall have.
	if null, err := os.Open(os.DevNull); err == nil {
		os.Stdin = null
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			os.Exit(1)
		}
		go impulsServe(connection, handler, isAlone)
	}
}

type impulsConnection struct {
	socket  net.Conn
	running atomic.Int32

	lock sync.Mutex
	// Frames that nobody has written yet, and room for the next ones while these are being written.
	pending, spare []byte
	isWriting      bool
}

// Sends one frame, at once or with others that are being sent now.
func (c *impulsConnection) send(kind byte, call uint32, payload []byte) {
	c.lock.Lock()
	c.pending = binary.LittleEndian.AppendUint32(c.pending, uint32(impulsHead+len(payload)))
	c.pending = append(c.pending, kind)
	c.pending = binary.LittleEndian.AppendUint32(c.pending, call)
	c.pending = append(c.pending, payload...)
	if c.isWriting {
		c.lock.Unlock()
		return
	}
	c.isWriting = true
	c.lock.Unlock()
	if c.running.Load() > 1 {
		// Calls that are about to end share one write, which is most of what a short one costs.
		runtime.Gosched()
	}
	c.lock.Lock()
	for len(c.pending) > 0 {
		frames := c.pending
		c.pending = c.spare[:0]
		c.lock.Unlock()
		if _, err := c.socket.Write(frames); err != nil {
			os.Exit(1)
		}
		c.lock.Lock()
		c.spare = frames
		if cap(frames) > impulsKept {
			c.spare = nil
		}
	}
	c.isWriting = false
	c.lock.Unlock()
}

func impulsServe(connection net.Conn, handler impulsFunction, isAlone bool) {
	c := &impulsConnection{socket: connection}
	c.send(impulsReady, 0, []byte(`{"runtime":"go","version":"1"}`))
	reader := bufio.NewReaderSize(connection, 64<<10)
	for {
		var head [4 + impulsHead]byte
		if _, err := io.ReadFull(reader, head[:]); err != nil {
			connection.Close()
			return
		}
		length := binary.LittleEndian.Uint32(head[:])
		if length < impulsHead || length > impulsMaxFrame {
			os.Exit(1)
		}
		payload := make([]byte, length-impulsHead)
		if _, err := io.ReadFull(reader, payload); err != nil {
			connection.Close()
			return
		}
		call := binary.LittleEndian.Uint32(head[5:])
		if head[4] == impulsInvoke && len(payload) >= 24 {
			c.running.Add(1)
			arrived := impulsArrived{c, call, payload}
			if isAlone {
				// No other call comes before this one has ended, so nobody needs to be woken for it.
				impulsAnswer(arrived, handler)
				continue
			}
			select {
			case impulsIdle <- arrived:
			default:
				go impulsWork(arrived, handler)
			}
		}
	}
}

// A call that nobody has begun.
type impulsArrived struct {
	connection *impulsConnection
	call       uint32
	payload    []byte
}

// What idle workers wait at.
var impulsIdle = make(chan impulsArrived)

// Answers calls one after another. There are never more workers than there were calls at once, which the host bounds;
// a goroutine for each call would have to grow its stack again each time.
func impulsWork(arrived impulsArrived, handler impulsFunction) {
	for {
		impulsAnswer(arrived, handler)
		// Nothing of a call is kept while there is none.
		arrived = impulsArrived{}
		arrived = <-impulsIdle
	}
}

func impulsAnswer(arrived impulsArrived, handler impulsFunction) {
	c, call, payload := arrived.connection, arrived.call, arrived.payload
	defer c.running.Add(-1)
	ctx := context.Background()
	if handler.takesContext {
		about := FunctionContext{
			RequestID:       impulsID(payload[:16]),
			FunctionName:    os.Getenv("IMPULS_FUNCTION_NAME"),
			FunctionVersion: os.Getenv("AWS_LAMBDA_FUNCTION_VERSION"),
			MemoryLimitMB:   os.Getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"),
		}
		deadline := time.UnixMilli(int64(binary.LittleEndian.Uint64(payload[16:24])))
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(context.WithValue(ctx, impulsContextKey{}, about), deadline)
		defer cancel()
	}
	event := payload[24:]
	if len(event) == 0 {
		event = []byte("null")
	}
	result, failure := impulsCall(ctx, event, handler.call)
	if failure == nil && len(result) > impulsResultLimit {
		message := fmt.Sprintf("the result has %d bytes; at most %d are allowed", len(result), impulsResultLimit)
		failure = &impulsFailure{Kind: "BadResponse", Message: message}
	}
	if failure != nil {
		failure.Message = impulsCut(failure.Message)
		failure.Stack = impulsCut(failure.Stack)
		text, _ := json.Marshal(failure)
		c.send(impulsError, call, text)
		return
	}
	c.send(impulsResult, call, result)
}

// A UUID as text.
func impulsID(id []byte) string {
	text := hex.EncodeToString(id)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

type impulsFailure struct {
	Kind    string `json:"kind"`
	Type    string `json:"type"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

func impulsCut(text string) string {
	if len(text) > impulsTextLimit {
		return strings.ToValidUTF8(text[:impulsTextLimit], "")
	}
	return text
}

func impulsCall(ctx context.Context, event []byte, handler impulsForm) (result []byte, failure *impulsFailure) {
	defer func() {
		if cause := recover(); cause != nil {
			name := "panic"
			if err, ok := cause.(error); ok {
				name = impulsName(err)
			}
			failure = &impulsFailure{"FunctionError", name, fmt.Sprint(cause), string(debug.Stack())}
		}
	}()
	return handler(ctx, event)
}

// A handler, whatever its parameters and results.
type impulsForm func(ctx context.Context, event []byte) ([]byte, *impulsFailure)

type impulsFunction struct {
	call impulsForm
	// Only such a handler is given more than an empty context.
	takesContext bool
}

var (
	impulsContextType = reflect.TypeOf((*context.Context)(nil)).Elem()
	impulsErrorType   = reflect.TypeOf((*error)(nil)).Elem()
)

// The forms of Lambda's handlers for Go: up to two parameters, a context first if there are two, and up to two results,
// an error last.
func impulsCallable(handler any) (impulsFunction, error) {
	function := reflect.ValueOf(handler)
	shape := function.Type()
	if shape.Kind() != reflect.Func {
		return impulsFunction{}, fmt.Errorf("the handler is a %s and no function", shape)
	}
	takesContext := shape.NumIn() > 0 && shape.In(0) == impulsContextType
	events := shape.NumIn()
	if takesContext {
		events--
	}
	if events > 1 || shape.IsVariadic() {
		return impulsFunction{}, errors.New("the handler must take at most a context.Context and an event")
	}
	values := shape.NumOut()
	givesError := values > 0 && shape.Out(values-1) == impulsErrorType
	if values > 2 || values == 2 && !givesError {
		return impulsFunction{}, errors.New("the handler must return at most a value and an error")
	}
	call := func(ctx context.Context, event []byte) ([]byte, *impulsFailure) {
		arguments := make([]reflect.Value, 0, 2)
		if takesContext {
			arguments = append(arguments, reflect.ValueOf(ctx))
		}
		if events == 1 {
			argument := reflect.New(shape.In(shape.NumIn() - 1))
			if err := json.Unmarshal(event, argument.Interface()); err != nil {
				kind := "BadEvent"
				if json.Valid(event) {
					// JSON, but not what this handler takes.
					kind = "FunctionError"
				}
				return nil, &impulsFailure{Kind: kind, Type: impulsName(err), Message: err.Error()}
			}
			arguments = append(arguments, argument.Elem())
		} else if !json.Valid(event) {
			return nil, &impulsFailure{Kind: "BadEvent", Message: "the event is not JSON"}
		}
		results := function.Call(arguments)
		if givesError {
			if err, _ := results[values-1].Interface().(error); err != nil {
				return nil, &impulsFailure{Kind: "FunctionError", Type: impulsName(err), Message: err.Error()}
			}
			results = results[:values-1]
		}
		if len(results) == 0 {
			return []byte("null"), nil
		}
		text, err := json.Marshal(results[0].Interface())
		if err != nil {
			return nil, &impulsFailure{Kind: "BadResponse", Type: impulsName(err), Message: err.Error()}
		}
		return text, nil
	}
	return impulsFunction{call, takesContext}, nil
}

// What Lambda calls an error: the name of its type.
func impulsName(err error) string {
	name := reflect.TypeOf(err)
	if name.Kind() == reflect.Pointer {
		name = name.Elem()
	}
	return name.Name()
}

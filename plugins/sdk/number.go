package sdk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is what New says of a configuration that it cannot make an application of.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// GRPCStatus is what the caller gets, unless Validate makes a problem of it.
func (r *refusal) GRPCStatus() *status.Status { return status.New(codes.InvalidArgument, r.Error()) }

func (r *refusal) problem() Problem {
	var n *numberError
	if errors.As(r.err, &n) {
		return Problem{Attribute: n.attribute, Summary: n.Error(), Detail: "Write a whole number; its page says which."}
	}
	return Problem{Summary: r.Error(), Detail: "the plugin's own schema should have refused this"}
}

// numberError is a number that does not fit the plugin's struct: HCL knows one type of numbers only, so that the schema
// cannot say that whole ones are wanted.
type numberError struct{ attribute, number string }

func (e *numberError) Error() string { return e.number + " is no whole number, or out of range" }

// asNumber finds the place of a number that JSON could not be decoded for; nil: it is not about one.
func asNumber(config []byte, err error) *numberError {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return nil
	}
	number, ok := strings.CutPrefix(wrong.Value, "number ")
	if !ok {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(config))
	dec.UseNumber()
	var body any
	if dec.Decode(&body) != nil {
		return nil
	}
	path, found := placeOf(body, strings.Split(wrong.Field, "."), number)
	if !found {
		return nil
	}
	return &numberError{strings.TrimPrefix(path, "."), number}
}

// placeOf is the path of the first such number below v, by names of attributes and blocks: ".check[0].rise".
func placeOf(v any, names []string, number string) (string, bool) {
	switch v := v.(type) {
	case []any:
		for i, one := range v {
			if path, ok := placeOf(one, names, number); ok {
				return fmt.Sprintf("[%d]%s", i, path), true
			}
		}
	case map[string]any:
		if len(names) > 0 {
			path, ok := placeOf(v[names[0]], names[1:], number)
			return "." + names[0] + path, ok
		}
	case json.Number:
		return "", len(names) == 0 && v.String() == number
	}
	return "", false
}

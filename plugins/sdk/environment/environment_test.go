package environment

import (
	"strings"
	"testing"
)

func TestValues(t *testing.T) {
	v := Values{
		Group: "rocky", Application: "night", Server: "apollo", Primary: "rocky", Event: "takeover", From: "rocky",
		Status: OtherLetter, Attempt: 2,
		Drives: []Drive{{Letter: "G:", Path: "/ors/G", Configured: "E:"}, {Letter: "H:", Path: "/ors/H"}},
	}
	for _, tc := range []struct {
		name       string
		v          Values
		env        string
		parameters string
	}{
		{
			"all", v,
			"ORS_APPLICATION=night ORS_ATTEMPT=2 ORS_D1=G: ORS_D1_PATH=/ors/G ORS_D2=H: ORS_D2_PATH=/ors/H " +
				"ORS_DRIVES=G: H: ORS_DRIVE_E=/ors/G ORS_DRIVE_H=/ors/H ORS_EVENT=takeover ORS_FROM=rocky ORS_GROUP=rocky " +
				"ORS_PRIMARY=rocky ORS_SERVER=apollo ORS_STATUS=1",
			"status=1 event=takeover group=rocky server=apollo from=rocky primary=rocky attempt=2",
		},
		{"nothing", Values{}, "ORS_STATUS=0", "status=0"},
	} {
		if got := strings.Join(List(tc.v.Variables()), " "); got != tc.env {
			t.Errorf("%s: environment\n%s\nwant\n%s", tc.name, got, tc.env)
		}
		if got := strings.Join(tc.v.Parameters(), " "); got != tc.parameters {
			t.Errorf("%s: parameters %s, want %s", tc.name, got, tc.parameters)
		}
	}
}

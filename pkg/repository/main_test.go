package repository_test

import (
	"testing"

	"tekton.host/pkg/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
